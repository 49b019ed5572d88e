"""A run file: everything that a training run is told, as strict TOML.

Each section is a frozen model; an unknown key is an error that names the file, the key and the nearest known one.
`RunFile.intent` is the part that fixes the numbers of a run: with the stream's state it makes the plan's digest, so
what only says where and how often to write (names, folders, evaluation, checkpoints) can change between resumes.
"""

import json
import tomllib
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from pathlib import Path
from typing import Any, Literal, get_args

from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from headrace.pipeline.errors import InputError, RecipeError
from headrace.trainer.model_config import ModelSection
from headrace.trainer.objectives.contract import objectives
from headrace.trainer.schedule import SCHEDULES
from headrace.trainer.stream_config import DataConfig


class Section(BaseModel):
    """A section of a run file: frozen, strict in types, without unknown keys."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, allow_inf_nan=False)


class RunSection(Section):
    """`[run]`: what the run is called, how long it is and on what it computes."""

    name: str = Field(min_length=1)
    seed: int = Field(default=0, ge=0)
    steps: int = Field(ge=1)
    objective: str = "causal"
    device: str = "auto"
    """`auto` (CUDA where there is one), `cpu`, or torch's name of a device."""
    bf16: Literal["auto"] | bool = "auto"
    """Compute matrix products in bfloat16; `auto`: where it is faster."""
    compile: bool = False
    peak_flops: float | None = Field(default=None, gt=0)
    """Operations per second of one device, for the MFU of hardware that `trainer.flops` does not know."""

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return _one_of("objective", name, objectives())


class OptimizerSection(Section):
    """`[optimizer]`: AdamW (Loshchilov and Hutter 2019), its learning-rate schedule and the microbatch."""

    learning_rate: float = Field(default=1e-3, gt=0)
    betas: tuple[float, float] = (0.9, 0.95)
    eps: float = Field(default=1e-8, gt=0)
    weight_decay: float = Field(default=0.1, ge=0)
    clip: float | None = Field(default=1.0, gt=0)
    """Largest norm of the whole gradient; larger ones are scaled down."""
    schedule: str = "cosine"
    warmup_steps: int = Field(default=0, ge=0)
    final_fraction: float = Field(default=0.1, ge=0, le=1)
    """Learning rate of the last step, as a share of the highest."""
    decay_fraction: float = Field(default=0.2, gt=0, le=1)
    """Share of the steps in which `wsd` decays."""
    microbatch: int | None = Field(default=None, ge=1)
    """Rows of one forward pass; by default all rows of the rank."""

    @field_validator("betas")
    @classmethod
    def _proper_betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must lie in [0, 1)")
        return betas

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        return _one_of("schedule", name, SCHEDULES)


class EvalSection(Section):
    """`[eval]`: when the held-out split is measured; the last step always does."""

    every: int | None = Field(default=None, ge=1)
    max_batches: int | None = Field(default=None, ge=1)


class CheckpointSection(Section):
    """`[checkpoint]`: when the state is written, and how many are kept; the last step always writes."""

    every: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)


class RunFile(Section):
    """A whole run file."""

    run: RunSection
    data: DataConfig
    model: ModelSection
    optimizer: OptimizerSection = OptimizerSection()
    eval: EvalSection = EvalSection()
    checkpoint: CheckpointSection = CheckpointSection()

    def intent(self) -> dict[str, Any]:
        """Return what fixes the numbers of the run; the data is named by its contents, in the stream's state."""
        return {
            "run": self.run.model_dump(mode="json", include={"seed", "steps", "objective"}),
            "model": self.model.model_dump(mode="json"),
            "optimizer": self.optimizer.model_dump(mode="json", exclude={"microbatch"}),
        }


def load_run(path: Path) -> RunFile:
    """Read a run file.

    Raises:
        InputError: the file cannot be read.
        RecipeError: it is not TOML, or a key or value is wrong.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: the run file cannot be read: {error}") from error
    return parse_run(text, str(path))


def parse_run(text: str, file: str = "run file") -> RunFile:
    """Decode the text of a run file; `file` is its name in errors.

    Raises:
        RecipeError: it is not TOML, or a key or value is wrong.
    """
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file}: not TOML: {error}") from error
    try:
        # By way of JSON, because there a strict tuple may be written as an array.
        return RunFile.model_validate_json(json.dumps(table, default=str))
    except ValidationError as error:
        raise RecipeError("\n".join(f"{file}: {line}" for line in _explain(error))) from error


def _explain(error: ValidationError) -> Iterator[str]:
    """Yield one line per fault: the key, what is wrong, and what would be right."""
    for fault in error.errors(include_url=False):
        location, kind = fault["loc"], fault["type"]
        key = ".".join(map(str, location))
        if kind == "extra_forbidden":
            yield f"unknown key {key!r}{_suggest(location)}"
        elif kind == "missing":
            yield f"the key {key!r} is missing"
        else:
            yield f"{key} = {fault['input']!r}: {fault['msg'].removeprefix('Value error, ')}"


def _suggest(location: tuple[int | str, ...]) -> str:
    known = _fields_at(location[:-1])
    near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"


def _fields_at(location: tuple[int | str, ...]) -> list[str]:
    """Return the keys of the table at a location of the run file."""
    model: type[BaseModel] = RunFile
    for key in location:
        if isinstance(key, str) and key in model.model_fields:
            inner = next(_models_in(model.model_fields[key].annotation), None)
            model = inner or model
    return list(model.model_fields)


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)


def _one_of(what: str, name: str, known: Mapping[str, Any]) -> str:
    if name not in known:
        raise ValueError(f"no such {what}; one of: {', '.join(sorted(known))}")
    return name
