"""The record of a run: its plan, intent and configuration, in its folder from the first step on.

`run.json` is written before the first step, so that a run which died or diverged before its first checkpoint can be
traced, and resumed only as what it was.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, NamedTuple

from headrace.pipeline.errors import InputError, RecipeError
from headrace.pipeline.hashing import canonical_json, digest_json
from headrace.pipeline.schema import Digest, Signed
from headrace.pipeline.store import replace, writing
from headrace.trainer.batch import BatchSource, Reweighted
from headrace.trainer.checkpoint import latest_checkpoint
from headrace.trainer.run_config import RunFile
from headrace.trainer.streaming.mending import Quarantined
from headrace.trainer.streaming.plan import ARITHMETIC

FILE = "run.json"


class RunRecord(Signed):
    """A run: the digest that names it, what that is made of, the run file, and the contents of its corpora."""

    kind: Literal["headrace.run"] = "headrace.run"
    plan: Digest
    intent: dict[str, Any]
    stream: dict[str, Any]
    contents: tuple[Digest, ...]
    config: dict[str, Any]

    @classmethod
    def of(cls, run: RunFile, source: BatchSource, start: Mapping[str, Any] | None = None) -> "RunRecord":
        """Describe a run, and where it starts (`Start.intent`)."""
        intent, stream = {**run.intent(), **({"start": dict(start)} if start else {})}, source.state()
        plan = digest_json({"intent": intent, "stream": stream})
        config = run.model_dump(mode="json")
        return cls(plan=plan, intent=intent, stream=stream, contents=source.contents(), config=config)

    @property
    def run(self) -> RunFile:
        """The run file."""
        return RunFile.model_validate(self.config, strict=False)

    def write(self, out: Path) -> None:
        """Write it into a run's folder, in place of what may be there."""
        with writing(out):
            out.mkdir(parents=True, exist_ok=True)
            replace(out / FILE, self.render())

    def require_same(self, where: Path, plan: str, intent: Mapping[str, Any], stream: Mapping[str, Any]) -> None:
        """Raise `RecipeError`, naming the fields that differ, if what was found at `where` is another plan's."""
        if plan == self.plan:
            return
        now, then = {**self.intent, "stream": self.stream}, {**intent, "stream": stream}
        changed = [
            f"{part}.{key} is {now.get(part, {}).get(key)!r}, was {then.get(part, {}).get(key)!r}"
            for part in {**now, **then}
            for key in sorted({*now.get(part, {}), *then.get(part, {})})
            if canonical_json(now.get(part, {}).get(key)) != canonical_json(then.get(part, {}).get(key))
        ]
        raise RecipeError(f"{where} was made by another plan: {'; '.join(changed)}")


def known_start(run: RunFile, out: Path) -> Mapping[str, Any] | None:
    """Return what the record in a run's folder says of its start, if the run file still names the same."""
    if not (out / FILE).exists():
        return None
    record = RunRecord.load(out / FILE)
    then = record.run.run
    is_same = (then.start, then.start_step) == (run.run.start, run.run.start_step)
    return record.intent.get("start") if is_same else None


def require_same_run(record: RunRecord, out: Path) -> None:
    """Raise `RecipeError` if a run's folder is that of another plan; one without a record is of none."""
    if (out / FILE).exists():
        known = RunRecord.load(out / FILE)
        record.require_same(out / FILE, known.plan, known.intent, known.stream)


class History(NamedTuple):
    """What befell a run beyond its plan: changes of the mixture, windows that were replaced, steps left out, from 0."""

    schedule: tuple[Reweighted, ...] = ()
    quarantined: tuple[Quarantined, ...] = ()
    left_out: frozenset[int] = frozenset()

    @classmethod
    def of(cls, state: Mapping[str, Any]) -> "History":
        """Read it from the state of a checkpoint.

        Raises:
            RecipeError: something befell it, and a version wrote this whose arithmetic of such changes was another.
        """
        found = cls(
            tuple(Reweighted(step, tuple(weights)) for step, weights in state.get("schedule", [])),
            tuple(Quarantined(*entry) for entry in state.get("quarantined", [])),
            frozenset(state.get("spikes", {}).get("left_out", [])),
        )
        if found != NO_HISTORY and state.get("arithmetic") != ARITHMETIC:
            raise RecipeError(
                f"the checkpoint of step {state['step']} has changes of weights or replaced windows, and its key "
                f"'arithmetic' says {state.get('arithmetic', 1)} where this version has {ARITHMETIC}: the run's "
                "batches cannot be made again; use the version that wrote it, or begin the run anew"
            )
        return found


NO_HISTORY = History()


def read_history(out: Path) -> History:
    """Return what is in a run's folder, up to its newest checkpoint; nothing without one."""
    checkpoint = latest_checkpoint(out / "checkpoints")
    return History.of(checkpoint.state) if checkpoint else History()


def read_run(out: Path) -> RunRecord:
    """Read the record in a run's folder; where there is none, as before there were records, that of its checkpoint.

    Raises:
        InputError: there is neither.
        IntegrityError: what is there is damaged.
    """
    if (out / FILE).exists():
        return RunRecord.load(out / FILE)
    checkpoint = latest_checkpoint(out / "checkpoints")
    if checkpoint is None:
        raise InputError(f"{out}: no run there; name the folder that `headrace train --out` was given")
    state = {name: checkpoint.state[name] for name in ("plan", "intent", "stream", "config")}
    return RunRecord(**state, contents=())
