"""Duplicates: who survives of the documents that share buckets, and whom each of the others resembles.

The last of three stages that find duplicates (see `stages.bands`), and the only one that is not cut in pieces: it holds
numbers of the candidates alone, a few dozen bytes each and their hashes, which are mapped from a file where they are
many; and where texts are compared, of pairs in question, 40 bytes each and as much again while they are put in order.
Exact duplicates are found so too, by a digest that is cut into one band.

With `verify = "none"` clusters are the connected components of the buckets (Leskovec et al., Mining of Massive
Datasets, 3.4; datatrove's last two stages). Else a document is removed only for a survivor that it resembles by
`similarity`: by the estimate from their hashes, or by the Jaccard similarity of their shingles, for which the texts of
pairs in question are read.
"""

from functools import cached_property
from typing import Any, ClassVar, Literal

from pydantic import Field

from headrace.filters.rules import Rule
from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.candidates import Arranged, Int64s, ranks_of
from headrace.pipeline.dedup.clusters import Clusters
from headrace.pipeline.dedup.jaccard import Comparison
from headrace.pipeline.dedup.membership import SUPPRESSIONS, suppressed_rows
from headrace.pipeline.dedup.pairs import SHINGLES
from headrace.pipeline.dedup.ranking import Policy, Survivor
from headrace.pipeline.dedup.resolving import Resolved, Resolver, Verify, resolve_components
from headrace.pipeline.dedup.tables import DecidingTables, Facts
from headrace.pipeline.schema import FINDINGS, PAIRS, Ledger, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.store import Store
from headrace.pipeline.tables import write_table
from headrace.pipeline.views import role_of_column, roles_of_columns

_TAKEN_DOWN = {"taken_down": "2"}
"""Since 2 all that was taken down is compared; steps without it are as they were."""


@register
class Duplicates(Stage):
    """Chooses survivors among the members of buckets over `column`, whose hashes have `bits` each.

    `rules` are those that later steps ask: what they drop survives nobody. `reason` is why the others are dropped, and
    `shingles` the config of the stage that measured them, to compare texts by.
    """

    name: ClassVar[str] = "duplicates"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "findings"

    column: str
    bits: Literal[32, 64] = 64
    reason: str
    verify: Verify = "estimate"
    similarity: float = Field(default=0.7, gt=0, le=1)
    most: int = Field(default=128, ge=1)
    policy: Policy = "first"
    by: str | None = None
    prefer: tuple[str, ...] = ()
    rules: tuple[dict[str, Any], ...] = ()
    suppressed: bool = False
    shingles: dict[str, Any] | None = None

    @property
    def survivor(self) -> Survivor:
        """Which of several survives."""
        return Survivor(self.policy, self.by, self.prefer)

    def columns(self) -> dict[str, list[str]]:
        """Return the columns that decide who survives, by the role of the table that holds them."""
        ruled = [name for rule in self._rules() for name in rule.columns]
        return roles_of_columns([*self.survivor.columns(), *ruled])

    def _rules(self) -> list[Rule]:
        return [Rule.model_validate(rule) for rule in self.rules]

    def inputs(self) -> tuple[str, ...]:
        """Return the buckets, the hashes, the verdicts and the tables of columns that decide."""
        roles = ["buckets", "verdicts", role_of_column(self.column), *self.columns()]
        roles += self._comparison.measure.inputs() if self._comparison else ()
        return tuple(dict.fromkeys([*roles, *((SUPPRESSIONS,) if self.suppressed else ())]))

    @cached_property
    def _comparison(self) -> Comparison | None:
        return None if self.shingles is None else Comparison(Measure.model_validate(self.shingles, strict=False))

    def resources(self) -> dict[str, str]:
        """Return what decides the shingles, where texts are compared, and how what was taken down is."""
        shingles = self._comparison.measure.resources() if self._comparison else {}
        return shingles | (_TAKEN_DOWN if self.suppressed and self.verify != "none" else {})

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Resolve all buckets."""
        tables = DecidingTables({role: input_paths(task, store, role) for role in self.inputs()}, store)
        buckets = Buckets.together([Buckets.open(path) for path in input_paths(task, store, "buckets")])
        found = self.find(buckets, tables, suppressed_rows(input_paths(task, store, SUPPRESSIONS)))
        batches = found.findings(self.reason, self._evidence)
        files = {self.table: write_table(store.new_file(task, self.table), FINDINGS, batches, {"task": task.key})}
        if self._comparison:
            stated = {"task": task.key, SHINGLES: self._comparison.digest}
            pairs = found.resolved.compared.to_batches()
            files["pairs"] = write_table(store.new_file(task, "pairs"), PAIRS, pairs, stated)
        told: dict[str, int | str] = {
            "candidates": len(found.rows),
            "crowded": found.resolved.num_crowded,
            "compared_pairs": len(found.resolved.compared),
        }
        return Made(files, Ledger(input=tables.total, kept=tables.total), told)

    def find(self, buckets: Buckets, tables: DecidingTables, taken_down: set[int]) -> Clusters:
        """Return the clusters among the members of buckets."""
        rows = buckets.candidates()
        facts = tables.facts(rows, self.survivor, self._rules(), taken_down)
        return Clusters.of(rows, facts, self._resolve(buckets, rows, facts, tables))

    def _resolve(self, buckets: Buckets, rows: Int64s, facts: Facts, tables: DecidingTables) -> Resolved:
        hashes = tables.hashes(self.column, self.bits, rows, ranks_of(facts.order))
        if self.verify == "none":
            return resolve_components(buckets, rows, facts.order, hashes)
        num_down = int(facts.taken_down.sum())
        arranged = Arranged.of(buckets, rows, facts.order, self.most, num_down)
        resolver = Resolver(arranged, hashes, self.similarity, self.most, num_down)
        if self._comparison is None:
            return resolver.by_estimate()
        return resolver.by_similarity(self._comparison.similarities(tables, rows, facts.order))

    @property
    def _evidence(self) -> str:
        return "jaccard" if self.verify == "jaccard" else "estimated_jaccard"
