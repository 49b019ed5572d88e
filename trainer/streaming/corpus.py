"""A corpus opened for streaming: its tokens, their index for a packing, and the tokenizer."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from headrace.pipeline.artifacts import make_one, manifest_path
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import InputError
from headrace.pipeline.packing import Packing
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.remote.folder import is_remote
from headrace.pipeline.remote.mirror import mirror_of
from headrace.pipeline.remote.ranges import RangeReader
from headrace.pipeline.schema import TOKENS, Manifest
from headrace.pipeline.serving import Repetition
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.pipeline.stages.stream_index import StreamIndex
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.suppressions import in_force
from headrace.pipeline.takedown import hidden_ids
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.stream_config import RemoteSection
from headrace.trainer.streaming.beside import METADATA, stored_columns
from headrace.trainer.streaming.mending import MendingTable

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Serving:
    """How documents become rows: length, packing, the held-out share (in 10,000), repetition and prefixes."""

    sequence_length: int
    packing: Packing = "concat"
    heldout: int = 100
    repetition: Repetition | None = None
    prefix: Prefix | None = None

    def stage(self) -> StreamIndex:
        """Return the stage that makes the index."""
        return StreamIndex(
            sequence_length=self.sequence_length,
            packing=self.packing,
            heldout=self.heldout,
            repetition=self.repetition,
            prefix=self.prefix,
        )


@dataclass(frozen=True)
class Corpus:
    """A corpus opened for streaming."""

    name: str
    store: Store
    tokens: Manifest
    index: Manifest
    tokenizer: Manifest
    vocabulary: Vocabulary
    place: str
    """Path or URL of the manifest of its tokens."""
    reader: RangeReader | None = None
    """What its parts are read through, where they lie elsewhere."""
    hidden: frozenset[str] = frozenset()
    """Documents that were taken down since the tokens were made; their tokens are masked in place."""

    def table(self, split: str, *, beside: Sequence[str] = (), bare: bool = False) -> MendingTable:
        """Return the windows of a split, with these columns beside tokens; with `bare` without tokens.

        Raises:
            InputError: texts are asked for, and were not kept; or metadata, and the tokens are too old to have it.
        """
        if beside:
            _check_beside(self.place, upstream(self.tokens, "encoded", self.store), stored_columns(beside))
        given = self.store, self.tokens, self.index, split, self.hidden, self.vocabulary, self.reader
        return MendingTable(*given, beside=beside, bare=bare)


class Opener:
    """Opens token artifacts by path or URL, and makes their stream indexes where there are none yet.

    Args:
        serving: how documents become rows.
        remote: how what lies at URLs is read.
    """

    def __init__(self, serving: Serving, remote: RemoteSection) -> None:
        self._serving, self._remote = serving, remote
        self._vocabularies: dict[str, Vocabulary] = {}

    @cached_property
    def reader(self) -> RangeReader:
        """What reads the parts of all corpora at URLs."""
        return self._remote.reader()

    def open(self, place: str) -> Corpus:
        """Open the corpus whose tokens' manifest is at a path or URL.

        Raises:
            InputError: it is no manifest of tokens, its tokenizer has seen what is to be held out, or no column of
                numbers beside the tokens is called as the repetition says.
            RemoteError: it lies elsewhere and cannot be read.
        """
        store, tokens = self._find(place)
        serving = self._serving
        if tokens.stage != "tokenize":
            raise InputError(
                f"{place}: a manifest of stage {tokens.stage!r}; training reads the one of stage 'tokenize'"
            )
        _check_repetition(serving.repetition)
        encoded = upstream(tokens, "encoded", store)
        _check_beside(place, encoded, serving.prefix.columns if serving.prefix else ())
        tokenizer = upstream(encoded, "tokenizer", store)
        store.bring(tokenizer)
        stage, roles = serving.stage(), {"tokens": tokens, "tokenizer": tokenizer}
        index = make_one("stream index", stage, {role: roles[role] for role in stage.inputs()}, store, InlineEngine())
        _refuse_seen(place, tokenizer, serving.heldout)
        return Corpus(
            name=f"{tokens.name} {tokens.content[:12]}",
            store=store,
            tokens=tokens,
            index=index,
            tokenizer=tokenizer,
            vocabulary=self._vocabulary(tokenizer, store),
            place=place if is_remote(place) else manifest_path(tokens, store),
            reader=self.reader if is_remote(place) else None,
            hidden=_hidden(encoded, store),
        )

    def _find(self, place: str) -> tuple[Store, Manifest]:
        if is_remote(place):
            return mirror_of(place, self._remote.folder, self._remote.patience)
        path = Path(place) / MANIFEST if Path(place).is_dir() else Path(place)
        tokens = Manifest.load(path)
        return Store.containing(path), tokens

    def _vocabulary(self, tokenizer: Manifest, store: Store) -> Vocabulary:
        """Load a vocabulary, once for all corpora that share it."""
        if tokenizer.content not in self._vocabularies:
            self._vocabularies[tokenizer.content] = Vocabulary.load(store.part_path(tokenizer, 0))
        return self._vocabularies[tokenizer.content]


def _hidden(encoded: Manifest, store: Store) -> frozenset[str]:
    if not in_force(store):
        return frozenset()
    hidden = hidden_ids(upstream(encoded, "corpus", store), store)
    if hidden:
        log.warning("%s: %d documents were taken down; their tokens are masked in place", store.root, len(hidden))
    return hidden


def _check_repetition(repetition: Repetition | None) -> None:
    numbers = [field.name for field in TOKENS if str(field.type) == "int64"]
    if repetition is not None and repetition.column not in numbers:
        raise InputError(
            f"repetition: {repetition.column!r} is no column of numbers beside tokens; there are {', '.join(numbers)}"
        )


def _check_beside(place: str, encoded: Manifest, columns: Sequence[str]) -> None:
    """Raise `InputError` if these columns do not stand beside the tokens that were made so."""
    if "text" not in encoded.config and not {METADATA, "text"}.isdisjoint(columns):
        raise InputError(f"{place}: these tokens were made before metadata stood beside them; build them again")
    if "text" in columns and not encoded.config["text"]:
        raise InputError(
            f"{place}: no texts were kept beside these tokens; set text = true in the recipe's step of kind "
            "'tokenize', and build"
        )


def _refuse_seen(place: str, tokenizer: Manifest, heldout: int) -> None:
    """Raise `InputError` if the tokenizer was trained on documents that are to be held out."""
    kept_from_it = int(tokenizer.config.get("heldout", heldout))
    if heldout > kept_from_it:
        raise InputError(
            f"{place}: {heldout} in 10,000 documents are to be held out, but only {kept_from_it} were kept from the "
            f"tokenizer; set heldout = {kept_from_it / HELDOUT_UNIT} in [data], or build with heldout = {heldout} in "
            "[split] of the recipe"
        )


def upstream(manifest: Manifest, role: str, store: Store) -> Manifest:
    """Return the manifest that another was made from, by its role."""
    source = next(item for item in manifest.inputs if item.role == role)
    path = store.find_manifest(source.stage, source.key)
    if path is None:
        raise InputError(f"{store.root}: the {role} that {manifest.name!r} was made from is gone; build it again")
    return Manifest.load(path)
