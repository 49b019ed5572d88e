"""MinHash: clusters of near-duplicates among the documents that earlier verdicts kept.

Documents that agree in all rows of one band are candidates, clusters are the connected components of the candidates
(Leskovec et al., Mining of Massive Datasets, 3.4; as in datatrove's last two stages). The first member in row order
survives; `cluster` is the smallest `doc_id` of the members, so it depends on contents and not on order. All signatures
are held in memory at once: 8 bytes a hash, 0.9 GB for a million documents of 112.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from headrace.filters.lsh import band_keys, connected_components, equal_pairs, estimate_jaccard, stack_signatures
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import FINDINGS, Ledger, Tally, Task
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_columns, same_rows, write_table

SIMILARITY_DIGITS = 4


@dataclass(frozen=True)
class _Candidate:
    """A document that may have near-duplicates, and where it stands among all."""

    row: int
    doc_id: str


@register
class MinHash(Stage):
    """Finds near-duplicates by the signatures of `signal`, cut into `bands` of `rows` hashes."""

    name: ClassVar[str] = "minhash"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "findings"

    signal: str
    bands: int
    rows: int

    def inputs(self) -> tuple[str, ...]:
        """Return the signatures and the earlier verdicts."""
        return (f"signals:{self.signal}", "verdicts")

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts in order."""
        return [self.task([item for role in self.inputs() for item in planning.part_inputs(role)])]

    def run(self, task: Task, store: Store) -> Made:
        """Cluster the kept documents."""
        candidates, blobs, total = self._load(task, store)
        rows: list[dict[str, Any]] = []
        if candidates:
            signatures = stack_signatures(blobs)
            rows = list(_findings(candidates, signatures, self.components(signatures)))
        batch = pa.RecordBatch.from_pylist(rows, schema=FINDINGS)
        file = write_table(store.new_file(task, self.table), FINDINGS, [batch], {"task": task.key})
        return Made({self.table: file}, Ledger(input=total, kept=total))

    def components(self, signatures: NDArray[np.uint64]) -> NDArray[np.int64]:
        """Return for each signature the number of its cluster's first member, which survives; at least one is given."""
        pairs = equal_pairs(band_keys(signatures, self.bands, self.rows))
        return connected_components(len(signatures), pairs)

    def _load(self, task: Task, store: Store) -> tuple[list[_Candidate], list[bytes], Tally]:
        """Return the kept documents that have a signature, their signatures, and how many documents there are."""
        candidates: list[_Candidate] = []
        blobs: list[bytes] = []
        total = Tally()
        column = f"{self.signal}.signature"
        paths = zip(*(input_paths(task, store, role) for role in self.inputs()), strict=True)
        for signals_path, verdicts_path in paths:
            signals = read_columns(signals_path, ["doc_id", column])
            verdicts = read_columns(verdicts_path, ["doc_id", "kept", "text_bytes"])
            ids = verdicts.column("doc_id").to_pylist()
            same_rows(ids, signals.column("doc_id").to_pylist(), signals_path)
            kept, signatures = verdicts.column("kept").to_pylist(), signals.column(column).to_pylist()
            chosen = [row for row in range(len(ids)) if kept[row] and signatures[row] is not None]
            candidates += [_Candidate(total.records + row, ids[row]) for row in chosen]
            blobs += [signatures[row] for row in chosen]
            total += Tally(records=len(ids), bytes=sum(verdicts.column("text_bytes").to_pylist()))
        return candidates, blobs, total


def _findings(
    candidates: list[_Candidate], signatures: NDArray[np.uint64], components: NDArray[np.int64]
) -> Iterator[dict[str, Any]]:
    """Yield a row for each member of a cluster of two or more, in row order."""
    roots, sizes = np.unique(components, return_counts=True)
    clustered = np.flatnonzero(np.isin(components, roots[sizes > 1]))
    members: dict[int, list[int]] = {}
    for index in clustered.tolist():
        members.setdefault(int(components[index]), []).append(index)
    names = {root: min(candidates[index].doc_id for index in group) for root, group in members.items()}
    for index in clustered.tolist():
        root, one = int(components[index]), candidates[index]
        found = {"row": one.row, "doc_id": one.doc_id, "cluster": names[root]}
        found |= {"cluster_size": len(members[root]), "reason": None, "evidence": None, "survivor": None}
        if index != root:
            similarity = round(float(estimate_jaccard(signatures[root], signatures[index])), SIMILARITY_DIGITS)
            evidence = canonical_json({"estimated_jaccard": similarity})
            found |= {"reason": "near_duplicate", "evidence": evidence, "survivor": candidates[root].doc_id}
        yield found
