"""The plan of a stream: all that a batch depends on, resolved, and its digest."""

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Literal

from headrace.pipeline.hashing import canonical_json, digest_json
from headrace.pipeline.packing import Packing
from headrace.pipeline.prefixes import Prefix
from headrace.pipeline.schema import Digest, Signed, Strict
from headrace.pipeline.serving import Repetition

_SHORT = 40
_LAST = 1 << 62
ARITHMETIC = 2
"""Of what changes on the way: credits are carried over changes of weights (`streaming.fair`), and windows are replaced
from a step on (`streaming.mending`). Named only where something changes; what names none was made by the first, which
forgot credits, and replaced windows from the beginning."""


class PlannedCorpus(Strict):
    """A corpus of a plan: its tokens, index and tokenizer by content, where they lay, how often it may be served."""

    name: str
    tokens: Digest
    index: Digest
    tokenizer: Digest
    path: str
    max_epochs: float | None = None


class StreamPlan(Signed):
    """The resolved data of a run. `digest` covers places too; `identity` is what a batch depends on.

    Attributes:
        batches: (from step, rows of a global batch), ascending from step 0.
        weights: (from step, weight of each corpus), ascending from step 0.
        lengths: (from step, length that rows are cut to), ascending; before the first they are whole.
        repetition: how often documents are served; the index knows only how many are.
        prefix: what stands before documents; the index knows only how long that is.
        prefix_until: step from which on prefixes are left out.
        heldout: in 10,000.
    """

    corpora: tuple[PlannedCorpus, ...]
    sequence_length: int
    packing: Packing
    masks: Literal["documents", "none"]
    batches: tuple[tuple[int, int], ...]
    weights: tuple[tuple[int, tuple[float, ...]], ...]
    lengths: tuple[tuple[int, int], ...] = ()
    repetition: Repetition | None = None
    prefix: Prefix | None = None
    prefix_until: int | None = None
    heldout: int
    seed: int

    def resolved(self) -> dict[str, Any]:
        """Return all that determines a batch: contents, weights, shapes and seed, and no path."""
        fields = self.model_dump(mode="json", exclude={"digest", "schema_version"})
        for corpus in fields["corpora"]:
            del corpus["path"], corpus["name"]
        for name in ("prefix", "repetition"):
            if fields[name] is None:
                del fields[name]  # so that plans without one are called what they were
        if len(self.weights) > 1:
            fields["arithmetic"] = ARITHMETIC
        return fields

    @property
    def identity(self) -> str:
        """The digest of all that determines a batch."""
        return digest_json(self.resolved())

    def summary(self) -> dict[str, Any]:
        """Return each field by which plans differ: itself where it is short, else the beginning of its digest."""
        return {name: _shortened(value) for name, value in self.resolved().items()}

    def rows(self, step: int) -> int:
        """Return the rows of a step's global batch."""
        return self.batches[_governing(self.batches, step)][1]

    def length(self, step: int) -> int:
        """Return the length of a step's rows."""
        number = _governing(self.lengths, step)
        return self.sequence_length if number < 0 else self.lengths[number][1]

    def without_prefix(self, step: int) -> bool:
        """Return whether prefixes are left out in a step."""
        return self.prefix_until is not None and step >= self.prefix_until

    def first_sample(self, step: int) -> int:
        """Return how many samples come before a step."""
        return sum(rows * (min(step, end) - begin) for begin, end, rows in self._spans() if begin < step)

    def step_of(self, sample: int) -> int:
        """Return the step that serves a sample."""
        before = 0
        for begin, end, rows in self._spans():
            inside = (sample - before) // rows
            if begin + inside < end:
                return begin + inside
            before += rows * (end - begin)
        raise AssertionError("the last span has no end")

    def is_before_a_step(self, samples: Any) -> bool:
        """Return whether this is how many samples come before some step."""
        if type(samples) is not int or not 0 <= samples < self.first_sample(_LAST):
            return False
        return self.first_sample(self.step_of(samples)) == samples

    def span(self, step: int) -> tuple[int, int, int]:
        """Return from which step on, and up to which, a global batch has as many rows as in a step, and how many."""
        return next(span for span in self._spans() if span[0] <= step < span[1])

    def _spans(self) -> Iterator[tuple[int, int, int]]:
        ends = [begin for begin, _ in self.batches[1:]] + [_LAST]
        for (begin, rows), end in zip(self.batches, ends, strict=True):
            yield begin, end, rows


def _governing(entries: Sequence[tuple[int, Any]], step: int) -> int:
    return bisect_right([begin for begin, _ in entries], step) - 1


def _shortened(value: Any) -> Any:
    return value if len(canonical_json(value)) <= _SHORT else digest_json(value)[:16]


def differing(now: Mapping[str, Any], then: Mapping[str, Any]) -> str:
    """Return in words what two summaries differ in."""
    return "; ".join(
        f"{name} is {now.get(name)!r}, was {then.get(name)!r}"
        for name in sorted({*now, *then})
        if canonical_json(now.get(name)) != canonical_json(then.get(name))
    )
