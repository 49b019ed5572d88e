"""Buckets: the documents that share a band key, for one range of keys, among those that are left.

The second of three stages that find duplicates (see `stages.bands`). Of every part a task maps the entries of its range
alone. The number of tasks follows from the number of entries, and changes nothing in what is found.
"""

from collections.abc import Iterator
from typing import ClassVar

from pydantic import Field

from headrace.pipeline.dedup.buckets import Buckets as Found
from headrace.pipeline.dedup.entries import ENTRY_BYTES, Bools, Entries
from headrace.pipeline.dedup.membership import SUPPRESSIONS, member_flags, suppressed_rows
from headrace.pipeline.schema import Ledger, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store

BYTES_OF_ENTRY = 33
"""What an entry takes in memory while buckets are found."""


@register
class Buckets(Stage):
    """Groups the entries of one of `partitions` ranges of keys; `suppressed` documents are looked at like kept ones."""

    name: ClassVar[str] = "buckets"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "buckets"

    partition: int = Field(default=0, ge=0)
    partitions: int = Field(default=1, ge=1)
    suppressed: bool = False

    def inputs(self) -> tuple[str, ...]:
        """Return the entries, the earlier verdicts, and who was taken down."""
        return ("bands", "verdicts", *((SUPPRESSIONS,) if self.suppressed else ()))

    def plan(self, planning: Planning) -> list[Task]:
        """Return one task for each range of keys, each over all parts."""
        items = [item for role in self.inputs() for item in planning.part_inputs(role)]
        return [self.task(items, partition=number) for number in range(self.partitions)]

    @classmethod
    def num_partitions(cls, planning: Planning, task_bytes: int) -> int:
        """Return how many ranges keep a task's entries within `task_bytes`."""
        entries = sum(item.size for item in planning.part_inputs("bands")) // ENTRY_BYTES
        return max(1, -(-entries * BYTES_OF_ENTRY // task_bytes))

    def run(self, task: Task, store: Store) -> Made:
        """Group the entries of one range."""
        taken_down = suppressed_rows(input_paths(task, store, SUPPRESSIONS))
        flags = list(member_flags(input_paths(task, store, "verdicts"), taken_down))
        found = Found.find(self._parts(task, store, flags))
        file = store.put_file(task, self.table, found.to_bytes(), ".buckets")
        return Made({self.table: file}, Ledger())

    def _parts(self, task: Task, store: Store, flags: list[Bools]) -> Iterator[tuple[Entries, Bools]]:
        for path, chosen in zip(input_paths(task, store, "bands"), flags, strict=True):
            yield Entries.open(path).between(self.partition, self.partitions), chosen
