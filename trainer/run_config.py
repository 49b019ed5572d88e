"""A run file: everything that a training run is told, as strict TOML.

Each section is a frozen model; an unknown key is an error that names the file, the key and the nearest known one.
`RunFile.intent` is the part that fixes the numbers of a run: with the stream's state it makes the plan's digest, so
what only says where and how often to write (names, folders, evaluation, checkpoints) can change between resumes.
"""

from pathlib import Path
from typing import Any, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.pipeline.errors import RecipeError
from headrace.pipeline.remote.folder import is_remote
from headrace.pipeline.strict_toml import key_fault, load_toml, one_of, parse_toml
from headrace.trainer.model_config import ModelSection
from headrace.trainer.objectives.contract import Objective, make_objective, objectives
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
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Of several ranks (`torchrun`): each holds the whole model, or a part of it."""
    peak_flops: float | None = Field(default=None, gt=0)
    """Operations per second of one device, for the MFU of hardware that `trainer.flops` does not know."""

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return one_of("objective", name, objectives())


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
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log of the softmax's denominator, which keeps logits near zero."""
    balance_loss: float = Field(default=0.01, ge=0)
    """Of experts: weight of the loss that is least where all have as many tokens."""
    router_z_loss: float = Field(default=0.001, ge=0)
    balance_rate: float = Field(default=0.001, ge=0)
    """Of experts balanced by `bias`: how far it moves after a step."""
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
        return one_of("schedule", name, SCHEDULES)


class EvalSection(Section):
    """`[eval]`: when the held-out split is measured; the last step always does."""

    every: int | None = Field(default=None, ge=1)
    max_batches: int | None = Field(default=None, ge=1)


class CheckpointSection(Section):
    """`[checkpoint]`: when the state is written, and how many are kept; the last step always writes."""

    every: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints of steps that are a multiple of this stay for good, beside the newest `keep`."""


class RunFile(Section):
    """A whole run file."""

    run: RunSection
    data: DataConfig
    model: ModelSection
    optimizer: OptimizerSection = OptimizerSection()
    eval: EvalSection = EvalSection()
    checkpoint: CheckpointSection = CheckpointSection()
    objective: dict[str, Any] = {}
    """`[objective]`: options of the objective that `run.objective` names."""

    @model_validator(mode="after")
    def _objective_takes_its_options(self) -> Self:
        try:
            self.make_objective()
        except RecipeError as error:
            raise key_fault("objective", str(error)) from None
        return self

    def make_objective(self) -> Objective:
        """Return the objective with its options."""
        return make_objective(self.run.objective, self.objective)

    def beside(self, folder: Path) -> "RunFile":
        """Return the run with its manifests by absolute path; in a run file they are relative to its folder."""
        corpora = [
            corpus if is_remote(corpus.tokens) else corpus.model_copy(update={"tokens": _beside(folder, corpus.tokens)})
            for corpus in self.data.corpora
        ]
        remote = self.data.remote
        if remote.cache is not None:
            remote = remote.model_copy(update={"cache": _beside(folder, remote.cache)})
        return self.model_copy(update={"data": self.data.model_copy(update={"corpora": corpora, "remote": remote})})

    def intent(self) -> dict[str, Any]:
        """Return what fixes the numbers of the run; the data is named by its contents, in the stream's state."""
        return {
            "run": self.run.model_dump(mode="json", include={"seed", "steps", "objective"}),
            "model": self.model.model_dump(mode="json"),
            "optimizer": self.optimizer.model_dump(mode="json", exclude={"microbatch"}),
            **({"objective": self.objective} if self.objective else {}),
        }


def _beside(folder: Path, path: str) -> str:
    return str((folder / path).absolute())


def load_run(path: Path) -> RunFile:
    """Read a run file.

    Raises:
        InputError: the file cannot be read.
        RecipeError: it is not TOML, or a key or value is wrong.
    """
    return load_toml(RunFile, path)


def parse_run(text: str, file: str = "run file") -> RunFile:
    """Decode the text of a run file; `file` is its name in errors. Raises `RecipeError` as `load_run` does."""
    return parse_toml(RunFile, text, file)
