"""Redeciding: the bounds of steps `best` as a build with other rules would find them, from side tables and verdicts.

Documents that the changed rules keep are followed from step to step, one flag each; the flags of a step are those of
its verdicts until a changed rule makes a difference. Only then is a threshold found anew, by the stage that a build
asks, and so are near-duplicates that stand between a changed rule and such a step. Memory: a byte a document, 24 for
the values of one step, and all signatures where near-duplicates are found.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
import pyarrow as pa

from headrace.filters.judging import Bools, failures
from headrace.filters.rules import Rule
from headrace.pipeline.best_steps import best_label, find_best
from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.candidates import split_rows
from headrace.pipeline.dedup.entries import Entries
from headrace.pipeline.dedup.membership import SUPPRESSIONS, suppressed_rows, with_taken_down
from headrace.pipeline.dedup.tables import DecidingTables
from headrace.pipeline.errors import InputError
from headrace.pipeline.inspect import DECIDING
from headrace.pipeline.schema import Manifest
from headrace.pipeline.side_tables import SideTables
from headrace.pipeline.stages.duplicates import Duplicates
from headrace.pipeline.stages.threshold import FoundThreshold, Threshold, rule_bound
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns
from headrace.pipeline.views import list_parts, roles_of_columns

COUNTED = ("contamination", "marked_repeats")
"""Stages whose side tables depend on which documents are left."""

Flags = list[Bools]
"""One flag a document, part by part."""


@dataclass(frozen=True)
class Refound:
    """The threshold of a step `best`, before and after; `share` is the one that `after` was found for."""

    step: str
    column: str
    share: float
    before: FoundThreshold
    after: FoundThreshold


@dataclass(frozen=True)
class Redecided:
    """The rules of all steps with the bounds that a build would find, in the recipe's order, and what was found anew.

    `clustered` are the steps whose near-duplicates were looked for again.
    """

    rules: tuple[Rule, ...]
    thresholds: tuple[Refound, ...]
    clustered: tuple[str, ...]


def redecide(chain: Sequence[Manifest], store: Store, rules: Sequence[Rule], shares: Mapping[int, float]) -> Redecided:
    """Find the bounds of the steps `best` on the way to the last artifact of a chain.

    Args:
        chain: The artifact and all that it was made from, as `build_chain` gives it.
        store: Where it lies.
        rules: All rules on the way in order, some of them changed, those of steps `best` as they were.
        shares: New shares, by the number of the rule that the step left behind.

    Raises:
        InputError: a threshold is gone, or rests on a step that only a build can repeat; see also `find_best`.
        IntegrityError: a table holds other documents than those beside it.
    """
    return _Walk(chain, store, tuple(rules), shares).decide()


class _Walk:
    """Steps in order, and which documents come to them."""

    def __init__(
        self, chain: Sequence[Manifest], store: Store, rules: tuple[Rule, ...], shares: Mapping[int, float]
    ) -> None:
        self.chain, self.store, self.rules, self.shares = chain, store, list(rules), shares
        self.tables = SideTables.of(chain, store)
        self.came: Flags | None = None  # None: those that came before
        self.thresholds: list[Refound] = []
        self.clustered: list[str] = []

    @cached_property
    def steps(self) -> list[tuple[Manifest, int]]:
        """Steps that decide, up to the last `best`, each with the number of its first rule."""
        found, number, last = [], 0, 0
        for manifest in self.chain:
            if manifest.stage in DECIDING:
                found.append((manifest, number))
                number += len(manifest.config.get("rules", ()))
                last = len(found) if best_label(manifest) else last
        return found[:last]

    def decide(self) -> Redecided:
        """Walk the steps."""
        for manifest, first in self.steps:
            if manifest.stage == "adopt":
                self._adopt(manifest, first)
                continue
            if manifest.stage == "earlier":
                self._earlier(manifest)
                continue
            if best_label(manifest) and (self.came is not None or first in self.shares):
                self.rules[first] = self._refind(manifest, self.rules[first], self.shares.get(first))
            own = self.rules[first : first + len(manifest.config["rules"])]
            differing = [n for n, data in enumerate(manifest.config["rules"]) if Rule.model_validate(data) != own[n]]
            if self.came is not None or differing:
                passed = [self._passed(manifest, part, own, differing) for part in range(len(manifest.parts))]
                self.came = self._unless_same(manifest, passed)
        return Redecided(tuple(self.rules), tuple(self.thresholds), tuple(self.clustered))

    def _adopt(self, verdicts: Manifest, first: int) -> None:
        """Find duplicates anew where other documents come to that step, or other rules are asked after it."""
        if self.came is None and not self._finds_duplicates(verdicts):
            return
        stage, found = self._finder(verdicts)
        rules = self._rules_after(verdicts, stage, found, first)
        if self.came is not None or [rule.as_config() for rule in rules] != list(stage.rules):
            self.came = self._unless_same(verdicts, self._without_duplicates(verdicts, rules))

    def _earlier(self, verdicts: Manifest) -> None:
        """Refuse where other documents come to the step than those that it compared with an index."""
        if self.came is not None:
            raise InputError(
                f"{verdicts.name}: a later step `best` depends on which documents an earlier corpus has, which only a "
                "build can tell of documents that the changed rules keep"
            )

    def _finds_duplicates(self, verdicts: Manifest) -> bool:
        return any(item.role == f"findings:{Duplicates.name}" for item in verdicts.inputs)

    def _unless_same(self, manifest: Manifest, kept: Flags) -> Flags | None:
        """Return what a step keeps now, None where it is what it kept."""
        before = (self._verdicts(manifest, part, ["kept"]).column("kept") for part in range(len(manifest.parts)))
        same = all(np.array_equal(now, _true(flags)) for now, flags in zip(kept, before, strict=True))
        return None if same else kept

    def _verdicts(self, manifest: Manifest, part: int, columns: Sequence[str]) -> pa.Table:
        return read_columns(self.store.part_path(manifest, part), columns)

    # ------------------------------------------------------------------------------------------------------- rules

    def _passed(self, manifest: Manifest, part: int, rules: Sequence[Rule], differing: Sequence[int]) -> Bools:
        """Return which documents of a part come to a step and fail none of its rules, some of which differ now.

        What the verdicts tell of the others is believed, where they tell it of all documents that come.
        """
        verdicts = self._verdicts(manifest, part, ["doc_id", "kept", "failed"])
        judged = verdicts.column("kept").is_valid().to_numpy()
        came = judged if self.came is None else self.came[part]
        known = not (came & ~judged).any()
        asked = [rules[number] for number in differing] if known else list(rules)
        failed = _failed_of_others(verdicts.column("failed"), differing) if known else np.zeros(len(came), dtype=bool)
        if asked:
            names = list(dict.fromkeys(name for rule in asked for name in rule.columns))
            self._refuse_counted(manifest, names)
            failed |= failures(asked, self.tables.columns(names, part, verdicts.column("doc_id"))).any(axis=1)
        return came & ~failed

    def _refuse_counted(self, verdicts: Manifest, names: Sequence[str]) -> None:
        """Refuse columns that were counted among other documents than those that come now."""
        roles = [role for role in roles_of_columns(names) if role in self.tables.roles]
        counted = [role for role in roles if self.tables.roles[role].stage in COUNTED]
        if self.came is not None and counted:
            raise InputError(
                f"{verdicts.name}: {counted[0].removeprefix('signals:')!r} is counted among the documents that are "
                "left; a later step `best` depends on it, and what it is with the changed rules only a build can tell"
            )

    # -------------------------------------------------------------------------------------------------------- best

    def _refind(self, verdicts: Manifest, rule: Rule, share: float | None) -> Rule:
        """Return the rule of a step `best` with the bound that it has among the documents that come to it now."""
        best = find_best(verdicts, self.chain, share, self.store)
        parts = [self._values(verdicts, part, best.stage) for part in range(len(verdicts.parts))]
        found = best.stage.find(np.concatenate([np.zeros(0), *parts]))
        self.thresholds.append(Refound(best.label, best.stage.column, best.stage.share, best.found, found))
        return rule.model_copy(update=rule_bound(found.threshold, best.stage.best))

    def _values(self, verdicts: Manifest, part: int, stage: Threshold) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
        table = self._verdicts(verdicts, part, ["doc_id", "kept"])
        came = self.came[part] if self.came is not None else table.column("kept").is_valid().to_numpy()
        self._refuse_counted(verdicts, [stage.column])
        column = self.tables.columns([stage.column], part, table.column("doc_id"))[stage.column]
        return stage.values(column, pa.array(came), verdicts.name)

    # -------------------------------------------------------------------------------------------------- duplicates

    def _without_duplicates(self, verdicts: Manifest, rules: Sequence[Rule]) -> Flags:
        """Return those of the documents that come to a step which would survive their duplicates."""
        stage, found = self._finder(verdicts)
        self.clustered.append(found.name)
        came = self.came or [self._came(verdicts, part) for part in range(len(verdicts.parts))]
        by_role = {item.role: self._manifest(item.key) for item in found.inputs}
        paths = {role: self._paths(manifest) for role, manifest in by_role.items()}
        bands = next(item for item in by_role["buckets"].inputs if item.role == "bands")
        taken_down = suppressed_rows(paths.get(SUPPRESSIONS, []))
        entries = [Entries.open(path) for path in self._paths(self._manifest(bands.key))]
        buckets = Buckets.find(zip(entries, with_taken_down(came, taken_down), strict=True))
        asked = stage.model_copy(update={"rules": tuple(rule.as_config() for rule in rules)})
        gone = asked.find(buckets, DecidingTables(paths, self.store), taken_down).removed_rows()
        for (start, mine), flags in zip(split_rows(gone, [len(flags) for flags in came]), came, strict=True):
            flags[gone[mine] - start] = False
        return came

    def _finder(self, verdicts: Manifest) -> tuple[Duplicates, Manifest]:
        """Return the stage whose findings verdicts adopted, and what it found."""
        (findings,) = (item for item in verdicts.inputs if item.role.startswith("findings:"))
        found = self._manifest(findings.key)
        if found.stage != Duplicates.name:
            raise InputError(
                f"{found.name}: a later step `best` depends on what this step finds among all documents that the "
                "changed rules keep, which only a build can tell"
            )
        return Duplicates.model_validate(found.config, strict=False), found

    def _manifest(self, key: str) -> Manifest:
        return next(manifest for manifest in self.chain if manifest.key == key)

    def _paths(self, manifest: Manifest) -> list[Path]:
        return [self.store.part_path(manifest, part) for part in range(len(manifest.parts))]

    def _came(self, verdicts: Manifest, part: int) -> Bools:
        judged: Bools = self._verdicts(verdicts, part, ["kept"]).column("kept").is_valid().to_numpy().copy()
        return judged

    def _rules_after(self, verdicts: Manifest, stage: Duplicates, found: Manifest, first: int) -> tuple[Rule, ...]:
        """Return the rules that the steps after one that finds duplicates ask now, but for those of steps `best`.

        Nor those about what was not measured when it found them, which it did not ask. What the chain does not reach
        is as it was built.
        """
        roles = {item.role for item in found.inputs}
        deciding = [manifest for manifest in self.chain if manifest.stage in DECIDING]
        later, number = [], first
        for manifest in deciding[deciding.index(verdicts) + 1 :]:
            own = len(manifest.config.get("rules", ()))
            asked = [] if best_label(manifest) else self.rules[number : number + own]
            later += [rule for rule in asked if roles_of_columns(rule.columns).keys() <= roles]
            number += own
        return (*later, *(Rule.model_validate(rule) for rule in stage.rules[len(later) :]))


def _true(flags: pa.ChunkedArray) -> Bools:
    """Return flags with False where they are null."""
    found: Bools = flags.fill_null(False).to_numpy()
    return found


def _failed_of_others(failed: pa.ChunkedArray, numbers: Sequence[int]) -> Bools:
    """Return which documents fail a rule besides those of these numbers, given the numbers that each fails."""
    starts, found = list_parts(failed.combine_chunks())
    rows = np.repeat(np.arange(len(failed)), np.diff(starts))
    flags = np.zeros(len(failed), dtype=bool)
    flags[rows[~np.isin(found.to_numpy(), list(numbers))]] = True
    return flags
