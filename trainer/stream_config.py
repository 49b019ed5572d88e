"""What a run file says about its data: corpora, mixture, packing, and how all that changes with the step."""

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator, model_validator

from headrace.pipeline.errors import RecipeError
from headrace.pipeline.packing import Packing
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.remote.chunks import ChunkCache
from headrace.pipeline.remote.folder import Patience
from headrace.pipeline.remote.ranges import RangeReader
from headrace.pipeline.serving import Repetition
from headrace.trainer.streaming.beside import check_names

MEBIBYTE, GIBIBYTE = 1 << 20, 1 << 30


class DataSection(BaseModel):
    """A table of section `[data]`: frozen, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class CorpusWeight(DataSection):
    """A tokenized corpus and its share of the mixture in tokens, relative to the other weights."""

    tokens: str
    """Path or URL of the manifest of the token artifact."""
    name: str | None = Field(default=None, min_length=1)
    """What it is called where it is told apart; by default by its stage and the beginning of its content id."""
    weight: float | None = Field(default=None, ge=0)
    epochs: float | None = Field(default=None, gt=0)
    """Instead of a weight: how often the corpus is seen, relative to the `epochs` of the others."""
    max_epochs: float | None = Field(default=None, gt=0)
    """How often the corpus is served at most; then the others take its share."""

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.weight is not None and self.epochs is not None:
            raise ValueError("a corpus has a weight or epochs, not both")
        return self


class Weights(DataSection):
    """From a step on, the corpora have these weights, in their order."""

    from_step: int = Field(ge=0)
    weights: list[float] = Field(min_length=1)

    @model_validator(mode="after")
    def _can_be_served(self) -> Self:
        if min(self.weights) < 0 or not any(self.weights):
            raise ValueError("weights are not negative, and one at least is above 0")
        return self


class Rows(DataSection):
    """From a step on, a global batch has so many rows."""

    from_step: int = Field(ge=0)
    rows: int = Field(gt=0)


class RowLength(DataSection):
    """From a step on, rows are cut into rows of a length that divides `sequence_length`."""

    from_step: int = Field(ge=0)
    length: int = Field(gt=0)


class PrefixSection(Prefix):
    """A prefix, and the step from which on there is none: the cool-down, for use without it."""

    until_step: int | None = Field(default=None, ge=0)


class RemoteSection(DataSection):
    """How corpora at URLs are read: through a cache on this machine, some of them ahead, and with how much patience."""

    cache: str | None = None
    """Folder of the cache; by default `headrace` in the user's cache folder. Other files in it are left alone."""
    cache_gibibytes: float = Field(default=16.0, gt=0)
    ahead_mebibytes: float = Field(default=256.0, ge=0)
    """What is fetched ahead at once, at most."""
    timeout_seconds: float = Field(default=60.0, gt=0)
    """How long one read may take."""
    tries: int = Field(default=5, ge=1)

    @property
    def folder(self) -> Path:
        """Where the cache is."""
        if self.cache is not None:
            return Path(self.cache)
        return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "headrace"

    @property
    def patience(self) -> Patience:
        """How long is waited."""
        return Patience(self.timeout_seconds, self.tries)

    def reader(self) -> RangeReader:
        """Return what reads ranges through the cache."""
        limit, ahead = int(self.cache_gibibytes * GIBIBYTE), int(self.ahead_mebibytes * MEBIBYTE)
        return RangeReader(ChunkCache(self.folder, limit), min(ahead, limit // 2))


def _as_schedule(value: Any) -> Any:
    return [{"from_step": 0, "rows": value}] if isinstance(value, int) else value


class DataConfig(DataSection):
    """Section `[data]` of a run file."""

    corpora: list[CorpusWeight] = Field(min_length=1)
    sequence_length: int = Field(gt=0)
    """Tokens in a row, at most."""
    global_batch: Annotated[list[Rows], BeforeValidator(_as_schedule), Field(min_length=1)]
    """Rows of a step, over all ranks: a number, or numbers from steps on (`[{from_step, rows}]`)."""
    packing: Packing = "concat"
    masks: Literal["documents", "none"] = "documents"
    """Whether attention and positions end with a document, or run through a row."""
    temperature: float | None = Field(default=None, gt=0)
    """Instead of weights: each corpus weighs its number of tokens to the power 1 / temperature."""
    schedule: list[Weights] = []
    lengths: list[RowLength] = []
    repetition: Repetition | None = None
    """How often training documents are served in an epoch, by a column."""
    prefix: PrefixSection | None = None
    """What stands before a share of the training documents."""
    columns: list[str] = []
    """What batches have beside tokens for each piece: stored columns, `metadata.NAME`. It changes no order."""
    remote: RemoteSection = RemoteSection()
    """How corpora at URLs are read; it changes no batch."""
    damaged: Literal["stop", "replace"] = "stop"
    """What becomes of training windows that are damaged or lost: an error, or others in their place, which is noted."""
    heldout: float = Field(default=0.01, ge=0, lt=1)
    """Share of the split keys that is held out."""

    @model_validator(mode="before")
    @classmethod
    def _needs_no_length(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("packing") == "document":
            return {"sequence_length": 1, **data}
        return data

    @field_validator("columns")
    @classmethod
    def _are_there(cls, columns: list[str]) -> list[str]:
        check_names(columns)
        return columns

    @model_validator(mode="after")
    def _documents_whole(self) -> Self:
        """Refuse what rows of whole documents cannot have."""
        if self.packing == "document":
            if not self.columns:
                raise ValueError("packing = 'document' serves columns in place of tokens; name them, as in ['text']")
            for name, given in (("lengths", self.lengths), ("prefix", self.prefix)):
                if given:
                    raise ValueError(f"{name}: documents are served whole with packing = 'document'")
            if self.sequence_length != 1:
                raise ValueError("sequence_length: documents are served whole with packing = 'document'; leave it out")
            if self.masks == "none":
                raise ValueError("masks: with packing = 'document' rows have no positions that attention could mix")
        return self

    @field_validator("corpora")
    @classmethod
    def _named_apart(cls, corpora: list[CorpusWeight]) -> list[CorpusWeight]:
        names = [corpus.name for corpus in corpora if corpus.name is not None]
        if len(set(names)) < len(names):
            raise ValueError(f"two corpora have one name: {', '.join(names)}")
        return corpora

    @model_validator(mode="after")
    def _fits(self) -> Self:
        _require_ascending("global_batch", [item.from_step for item in self.global_batch], starts=True)
        _require_ascending("schedule", [item.from_step for item in self.schedule])
        _require_ascending("lengths", [item.from_step for item in self.lengths])
        for item in self.schedule:
            if len(item.weights) != len(self.corpora):
                raise ValueError(f"schedule: {len(item.weights)} weights are given for {len(self.corpora)} corpora")
        for length in self.lengths:
            if self.sequence_length % length.length:
                raise ValueError(f"lengths: {length.length} does not divide sequence_length = {self.sequence_length}")
        self._check_weights()
        return self

    def _check_weights(self) -> None:
        given = [corpus for corpus in self.corpora if corpus.weight is not None or corpus.epochs is not None]
        if self.temperature is not None and given:
            raise ValueError("weights follow from the temperature, or are given to corpora; give one of both")
        with_epochs = sum(corpus.epochs is not None for corpus in self.corpora)
        if with_epochs not in (0, len(self.corpora)):
            raise ValueError("epochs are given for all corpora or for none")
        if not with_epochs and not any(corpus.weight is None or corpus.weight for corpus in self.corpora):
            raise ValueError("one corpus at least needs a weight above 0")

    def weights(self, num_tokens: Sequence[int]) -> tuple[float, ...]:
        """Return the weights of the first step, given the tokens of an epoch of each corpus.

        Raises:
            RecipeError: temperature or epochs lead to weights that are no finite numbers.
        """
        if self.temperature is not None:
            try:
                return tuple(float(f"{size ** (1 / self.temperature):.12g}") for size in num_tokens)
            except OverflowError:
                raise RecipeError(
                    f"[data] temperature = {self.temperature}: {max(num_tokens)} tokens to the power 1 / temperature "
                    "are above what a weight can be; raise it"
                ) from None
        weights = tuple(
            corpus.epochs * size if corpus.epochs is not None else 1.0 if corpus.weight is None else corpus.weight
            for corpus, size in zip(self.corpora, num_tokens, strict=True)
        )
        if math.inf in weights:
            raise RecipeError(
                "[data] epochs: times the tokens of an epoch they are above what a weight can be; lower them"
            )
        return weights


def _require_ascending(name: str, steps: Sequence[int], starts: bool = False) -> None:
    if list(steps) != sorted(set(steps)):
        raise ValueError(f"{name}: the steps {list(steps)} must ascend")
    if starts and steps[0] != 0:
        raise ValueError(f"{name}: the first entry must be from_step = 0")
