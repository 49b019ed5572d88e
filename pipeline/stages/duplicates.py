"""Duplicates: who survives of the documents that share buckets, and whom each of the others resembles.

The last of three stages that find duplicates (see `stages.bands`), and the only one that is not cut in pieces: it holds
numbers of the candidates alone, a few dozen bytes each and their hashes, which are mapped from a file where they are
many. Exact duplicates are found so too, by a digest that is cut into one band.

With `verify = "none"` clusters are the connected components of the buckets (Leskovec et al., Mining of Massive
Datasets, 3.4; datatrove's last two stages). Else a document is removed only for a survivor that it resembles by
`similarity`: by the estimate from their hashes, or by the Jaccard similarity of their shingles, for which the texts of
pairs in question are read.
"""

from typing import Any, ClassVar, Literal

from pydantic import Field

from headrace.filters.rules import Rule
from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.candidates import Arranged, Hashes, Int64s, ranks_of
from headrace.pipeline.dedup.clusters import Clusters
from headrace.pipeline.dedup.membership import SUPPRESSIONS, suppressed_rows
from headrace.pipeline.dedup.ranking import Policy, Survivor
from headrace.pipeline.dedup.resolving import Resolved, Resolver, Verify, resolve_components
from headrace.pipeline.dedup.tables import DecidingTables
from headrace.pipeline.schema import FINDINGS, Ledger, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import write_table
from headrace.pipeline.views import id_of_column, roles_of_columns


@register
class Duplicates(Stage):
    """Chooses survivors among the members of buckets over `column`, whose hashes have `bits` each.

    `rules` are those that later steps ask: what they drop survives nobody. `reason` is why the others are dropped.
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
        roles = ["buckets", "verdicts", f"signals:{id_of_column(self.column)}", *self.columns()]
        return tuple(dict.fromkeys([*roles, *((SUPPRESSIONS,) if self.suppressed else ())]))

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Resolve all buckets."""
        tables = DecidingTables(
            {role: input_paths(task, store, role) for role in self.inputs()}, store.task_folder(task)
        )
        buckets = Buckets.together([Buckets.open(path) for path in input_paths(task, store, "buckets")])
        found = self.find(buckets, tables, suppressed_rows(input_paths(task, store, SUPPRESSIONS)))
        batch = found.findings(self.reason, self._measure)
        file = write_table(store.new_file(task, self.table), FINDINGS, [batch], {"task": task.key})
        told: dict[str, int | str] = {
            "candidates": len(found.rows),
            "crowded": found.resolved.num_crowded,
            "verified_pairs": found.resolved.num_verified,
        }
        return Made({self.table: file}, Ledger(input=tables.total, kept=tables.total), told)

    def find(self, buckets: Buckets, tables: DecidingTables, taken_down: set[int]) -> Clusters:
        """Return the clusters among the members of buckets."""
        rows = buckets.candidates()
        facts = tables.facts(rows, self.survivor, self._rules(), taken_down)
        hashes = tables.hashes(self.column, self.bits, rows, ranks_of(facts.order))
        return Clusters.of(rows, facts, self._resolve(buckets, rows, facts.order, hashes, int(facts.taken_down.sum())))

    def _resolve(self, buckets: Buckets, rows: Int64s, order: Int64s, hashes: Hashes, num_down: int) -> Resolved:
        if self.verify == "none":
            return resolve_components(buckets, rows, order, hashes)
        arranged = Arranged.of(buckets, rows, order, self.most)
        return Resolver(arranged, hashes, self.similarity, self.most, num_down).by_estimate()

    @property
    def _measure(self) -> str:
        return "jaccard" if self.verify == "jaccard" else "estimated_jaccard"
