"""Funnel: what rules do to documents, asked of the side tables alone; no text is read and nothing is decided anew.

The documents are those that came to the first step of rules on the way to an artifact: what was no document, or the
same record twice, is not counted. Of those, each rule is asked of every document, whatever other rules and steps say.
Near-duplicates among the survivors are found by the next build; here a document is kept that fails no rule.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from numpy.typing import NDArray

from headrace.filters.judging import Bools, apply_rule, failures, first_failures
from headrace.filters.overrides import override_rules, parse_rule_override
from headrace.filters.rules import ColumnId, Rule, RuleError, near_miss
from headrace.pipeline.ancestry import ancestry, manifest_of
from headrace.pipeline.errors import InputError
from headrace.pipeline.rows import read_row
from headrace.pipeline.schema import Manifest
from headrace.pipeline.side_tables import SideTables, Value
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows

NUM_SAMPLES = 3

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """A rule and the step that asks it."""

    step: str
    rule: Rule

    def names(self) -> set[str]:
        """Return every name that an order may call the rule by: step, reason, column, or signal."""
        signal, view, _ = ColumnId.parse(self.rule.column)
        step = self.step.removeprefix("rules ")
        return {self.step, step, self.rule.reason, self.rule.column, signal, f"{signal}@{view}"}


@dataclass(frozen=True)
class RuleCount:
    """What one rule does: documents that fail it, that fail no other, that fail it first, and that are left then."""

    step: str
    rule: str
    column: str
    allowed: str
    fails: int
    alone: int
    first: int
    left: int


@dataclass(frozen=True)
class Funnel:
    """The rules in the order in which they are asked, and how many documents fail none of them."""

    kept: int
    rules: tuple[RuleCount, ...]


@dataclass(frozen=True)
class Crossed:
    """A changed rule that says otherwise of a document: its value, and what is allowed before and after."""

    rule: str
    column: str
    value: Value
    before: str
    after: str


@dataclass(frozen=True)
class Moved:
    """A document that changes sides, and the rules that it does it by."""

    doc_id: str
    url: str | None
    crossed: tuple[Crossed, ...]


@dataclass(frozen=True)
class Change:
    """What other rules would do: their funnel, and how many documents change sides, with some of them."""

    funnel: Funnel
    num_now_kept: int
    num_now_dropped: int
    now_kept: tuple[Moved, ...]
    now_dropped: tuple[Moved, ...]


NOTES = {
    "threshold": "a step `best` keeps its old threshold here; a build finds it anew among the documents that are left",
    "minhash": "near-duplicates count like all others here; a build finds them among the documents that are left",
}
"""What a changed rule would change besides, by stage, and only a build can tell."""


@dataclass(frozen=True)
class Answer:
    """What the rules on the way to an artifact do, and what they would do if some were changed."""

    path: str
    name: str
    documents: int
    funnel: Funnel
    changed: Change | None
    notes: tuple[str, ...] = ()


def ask_rules(
    path: Path, sets: Sequence[str] = (), order: Sequence[str] = (), num_samples: int = NUM_SAMPLES
) -> Answer:
    """Count what the rules on the way to an artifact do, in the recipe's order or with some rules first.

    Args:
        path: A manifest, an artifact's folder or one of its parts: a corpus, or the verdicts of a step.
        sets: Changes of rules, as `--set` takes them.
        order: Names of rules to ask first: steps, reasons, columns or signals.
        num_samples: How many documents to return of those that change sides, smallest ids first.

    Raises:
        InputError: no rule was asked on the way to it, or nothing there measures what a changed rule looks at.
        RuleError: a change or an order names no rule or column, or cannot be.
        StoreError, IntegrityError: see `ancestry`.
    """
    path = manifest_of(path)
    store = Store.containing(path)
    manifest = Manifest.load(path)
    chain = ancestry(manifest, store)
    asked = _ordered([one for item in chain for one in _asked(item)], order)
    if not asked:
        raise InputError(f"{path}: no rule was asked on the way to it; name a corpus, or the verdicts of a step")
    changed = override_rules([one.rule for one in asked], map(parse_rule_override, sets))
    count = _Count(asked, changed, chain, store, num_samples)
    for part in range(len(count.verdicts.parts)):
        count.add(part)
    return Answer(
        path=str(path),
        name=manifest.name,
        documents=count.documents,
        funnel=count.before.funnel(asked),
        changed=count.change() if sets else None,
        notes=tuple(NOTES[stage] for stage in dict.fromkeys(item.stage for item in chain) if sets and stage in NOTES),
    )


def _asked(manifest: Manifest) -> Iterator[Asked]:
    if manifest.stage == "rules":
        for data in manifest.config["rules"]:
            yield Asked(manifest.name, Rule.model_validate(data))


def _ordered(asked: list[Asked], order: Sequence[str]) -> list[Asked]:
    """Return the rules with those that `order` names in front."""
    first: list[Asked] = []
    for name in order:
        meant = [one for one in asked if name in one.names()]
        if not meant:
            known = sorted({known for one in asked for known in one.names()})
            raise RuleError(f"--order: no rule, step, column or signal is called {name!r}{near_miss(name, known)}")
        first += [one for one in meant if one not in first]
    return first + [one for one in asked if one not in first]


@dataclass
class _Tally:
    """Counts of one list of rules, part after part."""

    fails: Counts
    alone: Counts
    first: Counts
    kept: int = 0

    @classmethod
    def of(cls, num_rules: int) -> "_Tally":
        fails, alone, first = np.zeros((3, num_rules), dtype=np.int64)
        return cls(fails, alone, first)

    def add(self, failed: Bools) -> None:
        """Count documents (first axis) by the rules (second axis) that they fail."""
        num_rules, first, num_failed = failed.shape[1], first_failures(failed), failed.sum(axis=1)
        self.fails += failed.sum(axis=0)
        self.alone += np.bincount(first[num_failed == 1], minlength=num_rules)
        self.first += np.bincount(first[num_failed > 0], minlength=num_rules)
        self.kept += int((num_failed == 0).sum())

    def funnel(self, asked: Sequence[Asked]) -> Funnel:
        """Return the counts beside the rules."""
        left = self.kept + self.first.sum() - np.cumsum(self.first)
        columns = (self.fails.tolist(), self.alone.tolist(), self.first.tolist(), left.tolist())
        return Funnel(
            self.kept,
            tuple(
                RuleCount(one.step, one.rule.reason, one.rule.column, _in_words(one.rule), *counts)
                for one, *counts in zip(asked, *columns, strict=True)
            ),
        )


def _in_words(rule: Rule) -> str:
    special = f"by {', '.join(rule.by)}" if rule.by else ""
    return "; ".join(filter(None, ("" if rule.unbounded else str(rule), special)))


class _Count:
    """Counts what rules do before and after a change, part by part."""

    def __init__(
        self, asked: Sequence[Asked], changed: Sequence[Rule], chain: Sequence[Manifest], store: Store, limit: int
    ) -> None:
        self.asked, self.changed, self.store, self.limit = asked, changed, store, limit
        self.verdicts = next(manifest for manifest in chain if manifest.stage == "rules")
        self.texts = next(manifest for manifest in chain if manifest.table == "documents")
        self.tables = SideTables.of(chain, store)
        self.tables.check(self._names())
        self.documents = 0
        self.before, self.after = _Tally.of(len(asked)), _Tally.of(len(asked))
        self.moved = {True: _Smallest(limit), False: _Smallest(limit)}

    def add(self, part: int) -> None:
        """Count one part."""
        verdicts = read_columns(self.store.part_path(self.verdicts, part), ["doc_id", "kept"])
        doc_ids, came = verdicts.column("doc_id"), verdicts.column("kept").is_valid().to_numpy()
        columns = self.tables.columns(self._names(), part, doc_ids)
        before = failures([one.rule for one in self.asked], columns)
        self.documents += int(came.sum())
        self.before.add(before[came])
        differing = self._differing()
        if not differing:
            return
        after = before.copy()
        after[:, differing] = failures([self.changed[number] for number in differing], columns)
        self.after.add(after[came])
        kept = [~failed.any(axis=1) for failed in (before, after)]
        for now_kept, smallest in self.moved.items():
            smallest.add(doc_ids, part, came & (kept[0] != kept[1]) & (kept[1] == now_kept))

    def _names(self) -> list[str]:
        rules = [*(one.rule for one in self.asked), *self.changed]
        return list(dict.fromkeys(column for rule in rules for column in rule.columns))

    def _differing(self) -> list[int]:
        return [n for n, one in enumerate(self.asked) if one.rule != self.changed[n]]

    def change(self) -> Change:
        """Return the changed funnel and who changes sides."""
        asked = [replace(one, rule=rule) for one, rule in zip(self.asked, self.changed, strict=True)]
        tally = self.after if self._differing() else self.before
        moved = {side: tuple(map(self._describe, found.places)) for side, found in self.moved.items()}
        return Change(tally.funnel(asked), self.moved[True].total, self.moved[False].total, moved[True], moved[False])

    def _describe(self, place: tuple[str, int, int]) -> Moved:
        doc_id, part, row = place
        document = read_row(self.store.part_path(self.texts, part), row, ["doc_id", "url"])
        same_rows([doc_id], [document["doc_id"]], self.store.part_path(self.texts, part))
        values = self.tables.row(self._names(), part, row)
        pairs = [(self.asked[number].rule, self.changed[number]) for number in self._differing()]
        return Moved(
            doc_id, document["url"], tuple(_crossed(*pair, values) for pair in pairs if _differ(*pair, values))
        )


def _differ(before: Rule, after: Rule, values: Mapping[str, Value]) -> bool:
    columns = {name: [value] for name, value in values.items()}
    return bool(apply_rule(before, columns)[0] != apply_rule(after, columns)[0])


def _crossed(before: Rule, after: Rule, values: Mapping[str, Value]) -> Crossed:
    words = [str(rule.bounds_for(values)) if rule.applies_to(values) else "anything" for rule in (before, after)]
    return Crossed(before.reason, before.column, values[before.column], *words)


@dataclass
class _Smallest:
    """Counts documents, and remembers those with the smallest ids as (doc_id, part, row)."""

    limit: int
    total: int = 0
    places: tuple[tuple[str, int, int], ...] = ()

    def add(self, doc_ids: pa.ChunkedArray, part: int, chosen: NDArray[Any]) -> None:
        """Take the chosen rows of a part into account."""
        rows = np.flatnonzero(chosen)
        self.total += len(rows)
        if not (len(rows) and self.limit):
            return
        table = pa.table({"doc_id": doc_ids.take(pa.array(rows)), "row": rows})
        smallest = pc.select_k_unstable(table, min(self.limit, len(rows)), sort_keys=[("doc_id", "ascending")])
        found = [(row["doc_id"], part, row["row"]) for row in table.take(smallest).to_pylist()]
        self.places = tuple(sorted([*self.places, *found])[: self.limit])
