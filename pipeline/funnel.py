"""Funnel: what rules do to documents, asked of the side tables alone; no text is read and nothing is written.

The documents are those that came to the first step of rules on the way to an artifact: what was no document, or the
same record twice, is not counted. Of those, each rule is asked of every document, whatever other rules and steps say.
A step `best` is a rule whose bound follows from the rules before it: with changed rules it is found anew.
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
from headrace.filters.overrides import RuleOverride, override_rules, parse_rule_override
from headrace.filters.rules import ColumnId, Rule, RuleError, near_miss
from headrace.pipeline.best_steps import best_label
from headrace.pipeline.build_chain import NamedBuild, Way
from headrace.pipeline.errors import InputError
from headrace.pipeline.redeciding import COUNTED, Redecided, Refound, redecide
from headrace.pipeline.rows import read_row
from headrace.pipeline.schema import Manifest
from headrace.pipeline.shares import shares_of, split_shares
from headrace.pipeline.side_tables import SideTables, Value
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows

NUM_SAMPLES = 3

Counts = NDArray[np.int64]


@dataclass(frozen=True)
class Asked:
    """A rule and the step that asks it; `number` is its place in the recipe's order.

    `is_best` says that its bound was found by a step `best`.
    """

    number: int
    step: str
    rule: Rule
    is_best: bool

    def names(self) -> set[str]:
        """Return every name that an order may call the rule by: step, reason, column, or signal."""
        signal, view, _ = ColumnId.parse(self.rule.column)
        step = self.step.removeprefix("rules ").removesuffix(" verdicts")
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
    """What other rules would do: their funnel, the thresholds that steps `best` would find among other documents than
    before, and how many documents change sides, with some of them.
    """

    funnel: Funnel
    thresholds: tuple[Refound, ...]
    num_now_kept: int
    num_now_dropped: int
    now_kept: tuple[Moved, ...]
    now_dropped: tuple[Moved, ...]


@dataclass(frozen=True)
class Answer:
    """What the rules on the way to an artifact do, and what they would do if some were changed.

    They are those of the build of `recipe` that `lock` names, both None where no lock names the artifact.
    """

    path: str
    name: str
    documents: int
    funnel: Funnel
    changed: Change | None
    notes: tuple[str, ...] = ()
    recipe: str | None = None
    lock: str | None = None


def ask_rules(
    path: Path,
    sets: Sequence[str] = (),
    order: Sequence[str] = (),
    num_samples: int = NUM_SAMPLES,
    lock: Path | None = None,
) -> Answer:
    """Count what the rules on the way to an artifact do, in the recipe's order or with some rules first.

    Args:
        path: A manifest, an artifact's folder or one of its parts: a corpus, or the verdicts of a step.
        sets: Changes of rules and shares, as `--set` takes them.
        order: Names of rules to ask first: steps, reasons, columns or signals.
        num_samples: How many documents to return of those that change sides, smallest ids first.
        lock: The lock of the build that is asked about; by default the newest that made it.

    Raises:
        InputError: several builds made it, by different rules, and some are to be changed; no rule was asked on the way
            to it, nothing there measures what a changed rule looks at, or what a
            step `best` was built with is not known (see `redecide`).
        RuleError: a change or an order names no rule or column, or cannot be.
        StoreError, IntegrityError: see `Way.to`.
    """
    way = Way.to(path, lock)
    path, store, manifest, builds, chain = way.path, way.store, way.manifest, way.builds, way.chain
    asked = list(_asked(chain))
    if not asked:
        raise InputError(f"{path}: no rule was asked on the way to it; name a corpus, or the verdicts of a step")
    others = [build for build in builds[1:] if build.decisions() != builds[0].decisions()]
    if sets and others:
        raise InputError(
            f"{path}: builds with different rules made it, {', '.join(str(one.lock) for one in (builds[0], *others))}; "
            "say with --lock which of them is to be changed"
        )
    ordered = _ordered(asked, order)
    changed = _changed(asked, sets, chain, store)
    count = _Count(ordered, [changed.rules[one.number] for one in ordered], chain, store, num_samples)
    for part in range(len(count.verdicts.parts)):
        count.add(part)
    return Answer(
        path=str(path),
        name=manifest.name,
        documents=count.documents,
        funnel=count.before.funnel(ordered),
        changed=count.change(changed.thresholds) if sets else None,
        notes=(*_notes_on_builds(builds, others), *(_notes(chain, changed) if sets else ())),
        recipe=builds[0].recipe if builds else None,
        lock=str(builds[0].lock) if builds else None,
    )


def _notes_on_builds(builds: Sequence[NamedBuild], others: Sequence[NamedBuild]) -> Iterator[str]:
    """Yield what is to be known about whose rules these are."""
    if not builds:
        yield "no lock names it: rules and steps are those of the build that made it first"
    if others:
        names = ", ".join(one.lock.name for one in others)
        yield f"the rules are those of {builds[0].lock.name}; builds with other rules made it too, see --lock: {names}"


def _asked(chain: Sequence[Manifest]) -> Iterator[Asked]:
    number = 0
    for manifest in chain:
        for data in manifest.config["rules"] if manifest.stage == "rules" else ():
            yield Asked(number, manifest.name, Rule.model_validate(data), best_label(manifest) is not None)
            number += 1


def _changed(asked: Sequence[Asked], sets: Sequence[str], chain: Sequence[Manifest], store: Store) -> Redecided:
    """Return all rules in the recipe's order, changed, and with the bounds that steps `best` would have then."""
    texts, overrides = split_shares(sets)
    best, plain = ([one for one in asked if one.is_best is wanted] for wanted in (True, False))
    shares = {best[n].number: share for n, share in shares_of([one.rule.column for one in best], texts).items()}
    parsed = [parse_rule_override(text) for text in overrides]
    _refuse_bounds_of_best(best, plain, parsed)
    rules = [one.rule for one in asked]
    for one, rule in zip(plain, override_rules([one.rule for one in plain], parsed), strict=True):
        rules[one.number] = rule
    tables = SideTables.of(chain, store)
    tables.check([name for rule in rules for name in rule.columns])
    return redecide(chain, store, rules, shares)


def _refuse_bounds_of_best(best: Sequence[Asked], plain: Sequence[Asked], overrides: Sequence[RuleOverride]) -> None:
    """Raise `RuleError` where a bound is given for a column that no rule judges but a step `best`."""
    judged = {one.rule.column for one in plain}
    for one in best:
        for override in overrides:
            if override.column == one.rule.column not in judged:
                raise RuleError(
                    f"{override.column!r} is judged by the step {one.step.removesuffix(' verdicts')!r} alone, whose "
                    f"bound is found among the documents; ask for another share, as in {override.column}.share=0.2"
                )


def _notes(chain: Sequence[Manifest], changed: Redecided) -> Iterator[str]:
    """Yield what changed rules would change besides, and only a build can tell."""
    for manifest in chain:
        if manifest.stage == "duplicates":
            again = "; for the threshold of a later step `best` they were found anew here"
            yield (
                f"{manifest.name}: near-duplicates count like all others here; a build finds them among the documents "
                f"that are left{again if manifest.name in changed.clustered else ''}"
            )
        if manifest.stage in COUNTED:
            yield f"{manifest.name}: it is counted among the documents that are left, which a build does anew"
        if manifest.stage == "cut" and manifest.config["edits"]:
            yield (
                f"{manifest.name}: a build also drops documents that {', '.join(manifest.config['edits'])} leave "
                "nothing of, which takes their text"
            )


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

    def change(self, thresholds: tuple[Refound, ...]) -> Change:
        """Return the changed funnel, the thresholds in it that were found anew, and who changes sides."""
        asked = [replace(one, rule=rule) for one, rule in zip(self.asked, self.changed, strict=True)]
        tally = self.after if self._differing() else self.before
        moved = {side: tuple(map(self._describe, found.places)) for side, found in self.moved.items()}
        totals = self.moved[True].total, self.moved[False].total
        return Change(tally.funnel(asked), thresholds, *totals, moved[True], moved[False])

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
