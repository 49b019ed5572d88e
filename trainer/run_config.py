"""A run file: everything that a training run is told, as strict TOML.

Each section is a frozen model; an unknown key is an error that names the file, the key and the nearest known one.
`RunFile.intent` is the part that fixes the numbers of a run: with the stream's state it makes the plan's digest, so
what only says where and how often to write (names, folders, evaluation, checkpoints) can change between resumes.
"""

from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from headrace.pipeline.errors import RecipeError
from headrace.pipeline.remote.folder import is_remote
from headrace.pipeline.strict_toml import key_fault, load_toml, one_of, parse_toml
from headrace.trainer.model_config import ModelSection
from headrace.trainer.objectives.contract import Objective, make_objective, objectives
from headrace.trainer.schedule import SCHEDULES, SHAPES, Span
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.beside import check_names


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
    fp8: bool = False
    """Compute the layers' matrix products in 8 bits, on GPUs that can."""
    compile: bool = False
    recompute: Literal["none", "all"] | Annotated[int, Field(ge=1)] = "none"
    """Layers whose activations are made again for the backward pass instead of kept: a number N is every N-th."""
    start: str | None = None
    """Folder of another run, or of a checkpoint, whose weights the run begins with."""
    start_step: int | None = Field(default=None, ge=1)
    """Which of its checkpoints; by default the newest."""
    start_optimizer: bool = True
    """Take its moments too."""
    recount: bool = False
    """Count steps from 0, and so begin the stream and the schedule anew, instead of going on after its last step."""
    spikes: Literal["tell", "skip", "rewind"] = "tell"
    """At a loss spike: only say so, leave out the update, or go back to a checkpoint and leave out the batches."""
    spike_threshold: float = Field(default=6.0, gt=0)
    """Robust deviations above the median from which on a loss is a spike."""
    spike_window: int = Field(default=128, ge=4)
    """Losses that the median is of."""
    spike_batches: int = Field(default=2, ge=1)
    """Batches that `rewind` leaves out, the spike's the last of them."""
    parallel: Literal["ddp", "fsdp"] = "ddp"
    """Of several ranks (`torchrun`): each holds the whole model, or a part of it."""
    peak_flops: float | None = Field(default=None, gt=0)
    """Operations per second of one device, for the MFU of hardware that `trainer.flops` does not know."""

    @field_validator("objective")
    @classmethod
    def _known_objective(cls, name: str) -> str:
        return one_of("objective", name, objectives())

    @model_validator(mode="after")
    def _start_is_named(self) -> Self:
        usual = {"start_step": None, "start_optimizer": True, "recount": False}
        told = [key for key, value in usual.items() if getattr(self, key) != value]
        if self.start is None and told:
            raise key_fault(told[0], 'says how to start from a checkpoint; name it, too: start = "DIR"')
        return self


OptimizerKind = Literal["adamw", "muon"]


class GroupRule(Section):
    """A table of `[[optimizer.groups]]`: how parameters are trained whose names fit a pattern."""

    pattern: str = Field(min_length=1)
    """As of a shell: `*` stands for anything, dots too."""
    learning_rate: float = Field(default=1.0, ge=0)
    """Factor of the run's learning rate."""
    weight_decay: float | None = Field(default=None, ge=0)
    """By default the run's for matrices, none for vectors."""
    kind: OptimizerKind | None = None
    """By default what the run's kind gives them."""


class OptimizerSection(Section):
    """`[optimizer]`: AdamW (Loshchilov and Hutter 2019) or Muon, its learning-rate schedule and the microbatch."""

    added: ClassVar[frozenset[str]] = frozenset(
        {"kind", "momentum", "iterations", "groups", "decay_steps", "decay_shape", "ema"}
    )
    """Fields that came later: at its default one is left out of the intent, so that plans are what they were."""

    kind: OptimizerKind = "adamw"
    """`muon` trains the layers' matrices by Muon and the rest by AdamW."""
    momentum: float = Field(default=0.95, ge=0, lt=1)
    """Muon's."""
    iterations: int = Field(default=5, ge=1)
    """Of Newton-Schulz, in Muon."""
    groups: tuple[GroupRule, ...] = ()
    """Rules for parameters by name; the first that fits wins."""
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
    """Share of the steps in which `wsd` and `inverse_sqrt` cool down."""
    decay_steps: int | None = Field(default=None, ge=1)
    """How many steps that is, instead of a share."""
    decay_shape: str = "linear"
    z_loss: float = Field(default=0.0, ge=0)
    """Weight of the squared log of the softmax's denominator, which keeps logits near zero."""
    balance_loss: float = Field(default=0.01, ge=0)
    """Of experts: weight of the loss that is least where all have as many tokens."""
    router_z_loss: float = Field(default=0.001, ge=0)
    balance_rate: float = Field(default=0.001, ge=0)
    """Of experts balanced by `bias`: how far it moves after a step."""
    microbatch: int | None = Field(default=None, ge=1)
    """Rows of one forward pass; by default all rows of the rank."""

    ema: float | None = Field(default=None, gt=0, lt=1)
    """Also keep a moving average of the weights, which weighs what was before by this."""

    @field_validator("betas")
    @classmethod
    def _proper_betas(cls, betas: tuple[float, float]) -> tuple[float, float]:
        if not all(0 <= beta < 1 for beta in betas):
            raise ValueError("both betas must lie in [0, 1)")
        return betas

    @field_validator("decay_shape")
    @classmethod
    def _known_shape(cls, name: str) -> str:
        return one_of("decay_shape", name, SHAPES)

    @field_validator("schedule")
    @classmethod
    def _known_schedule(cls, name: str) -> str:
        return one_of("schedule", name, SCHEDULES)


USUAL = OptimizerSection()


class EvalSection(Section):
    """`[eval]`: when the held-out split is measured; the last step always does."""

    every: int | None = Field(default=None, ge=1)
    max_batches: int | None = Field(default=None, ge=1)
    domain: str = "corpus"
    """What the split is told apart by: `corpus`, or a column beside tokens (`source`, `metadata.NAME`)."""

    @field_validator("domain")
    @classmethod
    def _is_there(cls, domain: str) -> str:
        if domain != "corpus":
            check_names([domain])
        return domain


class CheckpointSection(Section):
    """`[checkpoint]`: when the state is written, and how many are kept; the last step always writes."""

    every: int | None = Field(default=None, ge=1)
    keep: int = Field(default=2, ge=1)
    keep_every: int | None = Field(default=None, ge=1)
    """Checkpoints of steps that are a multiple of this stay for good, beside the newest `keep`."""


class LogSection(Section):
    """`[log]`: where the log goes beside `metrics.jsonl`, and TensorBoard where that is installed."""

    wandb: str | None = Field(default=None, min_length=1)
    """Project of Weights & Biases; how to reach it is said by its own environment variables."""


class RunFile(Section):
    """A whole run file."""

    run: RunSection
    data: DataConfig
    model: ModelSection
    optimizer: OptimizerSection = OptimizerSection()
    eval: EvalSection = EvalSection()
    checkpoint: CheckpointSection = CheckpointSection()
    log: LogSection = LogSection()
    objective: dict[str, Any] = {}
    """`[objective]`: options of the objective that `run.objective` names."""

    @model_validator(mode="after")
    def _objective_takes_its_options(self) -> Self:
        try:
            self.make_objective()
        except RecipeError as error:
            raise key_fault("objective", str(error)) from None
        return self

    @property
    def span(self) -> Span:
        """The steps of the run, as its schedule takes them."""
        section = self.optimizer
        return Span(
            self.run.steps,
            section.warmup_steps,
            section.final_fraction,
            section.decay_fraction,
            section.decay_steps,
            section.decay_shape,
        )

    @model_validator(mode="after")
    def _each_corpus_has_a_condition(self) -> Self:
        given, needed = self.model.num_conditions, len(self.data.corpora)
        if 0 < given < needed:
            raise key_fault("model.num_conditions", f"is {given}, but there are {needed} corpora, each a condition")
        return self

    def make_objective(self) -> Objective:
        """Return the objective with its options."""
        return make_objective(self.run.objective, self.objective)

    def beside(self, folder: Path) -> "RunFile":
        """Return the run with manifests and folders by absolute path; in a run file they are relative to its folder."""
        corpora = [
            corpus if is_remote(corpus.tokens) else corpus.model_copy(update={"tokens": _beside(folder, corpus.tokens)})
            for corpus in self.data.corpora
        ]
        remote = self.data.remote
        if remote.cache is not None:
            remote = remote.model_copy(update={"cache": _beside(folder, remote.cache)})
        run = self.run
        if run.start is not None:
            run = run.model_copy(update={"start": _beside(folder, run.start)})
        data = self.data.model_copy(update={"corpora": corpora, "remote": remote})
        return self.model_copy(update={"run": run, "data": data})

    def measured_on(self, device: str | None = None) -> "RunFile":
        """Return the run as it is when nothing is trained: on a device, by default its own, with its exact weights.

        Graphs are not compiled, and no products are computed in 8 bits. Few devices have units for those, and with a
        scale for each whole tensor what is measured of a text would depend on the texts beside it.
        """
        changed = {"compile": False, "fp8": False, **({"device": device} if device else {})}
        return self.model_copy(update={"run": self.run.model_copy(update=changed)})

    def intent(self) -> dict[str, Any]:
        """Return what fixes the numbers of the run; the data is named by its contents, in the stream's state."""
        return {
            "run": self.run.model_dump(mode="json", include={"seed", "steps", "objective", *self._spike_keys()}),
            "model": self.model.model_dump(mode="json"),
            "optimizer": self._optimizer_intent(),
            **({"objective": self.objective} if self.objective else {}),
        }

    def _spike_keys(self) -> set[str]:
        """Return the keys that decide what is left out."""
        keys = {"spikes", "spike_threshold", "spike_window"}
        return {"tell": set(), "skip": keys, "rewind": {*keys, "spike_batches"}}[self.run.spikes]

    def _optimizer_intent(self) -> dict[str, Any]:
        later = {key for key in OptimizerSection.added if getattr(self.optimizer, key) == getattr(USUAL, key)}
        return self.optimizer.model_dump(mode="json", exclude={"microbatch", *later})


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
