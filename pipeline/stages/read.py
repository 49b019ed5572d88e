"""Read: raw files become documents, and every byte of them a line of the ledger.

Reading and extraction are one task, so that raw payloads are never stored. For each record the reader yields, either a
document is written or a row of `records` says why not. Stored bytes are added up from the extents: they must tile the
file. Records that share a compressed stream share its bytes in proportion to their decompressed length, by cumulative
division, so that nothing is lost to rounding.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from hashlib import sha256
from io import SEEK_END
from itertools import pairwise
from pathlib import Path
from typing import Any, BinaryIO, ClassVar, cast

import pyarrow as pa
from pydantic import SerializerFunctionWrapHandler, model_serializer

from headrace.filters.plugin_code import code_identity
from headrace.pipeline.erasures import ERASED, add_erasures, erased_ids, erased_in, erased_places
from headrace.pipeline.errors import InputError, LedgerError, StoreError
from headrace.pipeline.extract import Dropped, Extracted, Extractor, make_extractor
from headrace.pipeline.hashing import canonical_json, digest_range
from headrace.pipeline.raw_files import group_files
from headrace.pipeline.readers.contract import Extent, Gap, Reader, Record, make_reader
from headrace.pipeline.readers.sources import FileWindow
from headrace.pipeline.repair import RepairingExtractor, make_repairer
from headrace.pipeline.schema import DOCUMENTS, RECORDS, Ledger, Strict, Tally, Task, TaskInput
from headrace.pipeline.stages.contract import Made, Planning, RawFile, Stage, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import TableWriter, table_writers

log = logging.getLogger(__name__)

BATCH_ROWS = 256
BATCH_CHARACTERS = 8 << 20
Row = dict[str, Any]


def document_id(record: Record, part: str = "") -> str:
    """Return a document's name: of its record's decompressed block, target URL and date, and its part of the record."""
    name = "\n".join(("headrace document 1", record.digest, record.url, record.date, part))
    return sha256(name.encode(errors="surrogatepass")).hexdigest()[:32]


class SourceConfig(Strict):
    """How one source is read; without a repair nothing of it stands in the config, so that keys are what they were."""

    name: str
    reader: str
    reader_options: dict[str, Any] = {}
    extractor: str
    extractor_options: dict[str, Any] = {}
    repair: str | None = None
    repair_options: dict[str, Any] = {}

    @model_serializer(mode="wrap")
    def _leave_out_no_repair(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        config: dict[str, Any] = serialize(self)
        if self.repair is None:
            del config["repair"], config["repair_options"]
        return config

    def make_text_maker(self) -> Extractor | RepairingExtractor:
        """Return what makes this source's texts: its extractor, with its repair if there is one."""
        extractor = make_extractor(self.extractor, self.extractor_options)
        if self.repair is None:
            return extractor
        return RepairingExtractor(extractor, make_repairer(self.repair, self.repair_options))


class ErasedAgainError(StoreError):
    """Documents that were erased stand elsewhere, too; `places` by id are sha256 of files, and offsets."""

    def __init__(self, places: dict[str, set[tuple[str, int]]]) -> None:
        super().__init__(f"{len(places)} documents that were erased stand in other raw files, too")
        self.places = places


@register
class Read(Stage):
    """Reads files of `sources`; `sample` is a share of records in 2^32, `limit` a number of documents per task."""

    name: ClassVar[str] = "read"
    version: ClassVar[int] = 2
    table: ClassVar[str] = "documents"
    added: ClassVar[tuple[str, ...]] = ("erased",)

    sources: tuple[SourceConfig, ...]
    sample: int | None = None
    limit: int | None = None
    erased: tuple[str, ...] = ()
    """Ids of the documents that are read no more: of each only its id, place and size are told."""

    def resources(self) -> dict[str, str]:
        """Return what readers and extractors say can change what they give."""
        found: dict[str, str] = {}
        for source in self.sources:
            reader = make_reader(source.reader, source.reader_options)
            extractor = make_extractor(source.extractor, source.extractor_options)
            found |= {f"reader:{reader.name}": str(reader.version), **reader.resources()}
            found |= {f"extractor:{extractor.name}": str(extractor.version), **extractor.resources()}
            if source.repair is not None:
                repairer = make_repairer(source.repair, source.repair_options)
                found |= {f"repair:{repairer.name}": str(repairer.version), **repairer.resources()}
            found |= {**code_identity(type(reader)), **code_identity(type(extractor))}
        return found

    def inputs(self) -> tuple[str, ...]:
        """Return no artifact: only raw files are read."""
        return ()

    def plan_sized(self, planning: Planning, task_bytes: int) -> list[Task]:
        """Return tasks of about `task_bytes` of input each, in row order."""
        tasks, known = [], erased_places(planning.store)
        for source in self.sources:
            one = self.model_copy(update={"sources": (source,)})
            for group in group_files(planning.files[source.name], task_bytes):
                slices = _slices(source, group[0], task_bytes) if len(group) == 1 else [(None, None)]
                for start, end in slices:
                    inputs = [
                        TaskInput(role="raw", content=f.sha256, path=str(f.path), size=f.size, start=start, end=end)
                        for f in group
                    ]
                    tasks.append(one.model_copy(update={"erased": erased_in(inputs, known)}).task(inputs))
        return tasks

    @classmethod
    def run_bundle(cls, tasks: Sequence[Task], store: Store) -> Iterator[tuple[Task, Made]]:
        """Do tasks; one that meets erased documents of which its config says nothing is done as the one that does.

        Where they lie is written down then, so that who plans again plans that task.
        """
        for task in tasks:
            try:
                made = cls.of(task).run(task, store)
            except ErasedAgainError as error:
                add_erasures(store, error.places)
                erased = sorted({*task.config.get("erased", ()), *error.places})
                task = task.model_copy(update={"config": {**task.config, "erased": erased}})
                made = cls.of(task).run(task, store)
            yield task, made

    def run(self, task: Task, store: Store) -> Made:
        """Read and extract the files of one task.

        Raises:
            ErasedAgainError: some documents were erased, and the config does not say so. Nothing is written of them.
            InputError: a file is gone, or is not what was planned.
        """
        writers = {
            table: TableWriter(store.new_file(task, table), schema, {"task": task.key})
            for table, schema in ((self.table, DOCUMENTS), ("records", RECORDS))
        }
        with table_writers(*writers.values()):
            documents, records = _Rows(writers[self.table], DOCUMENTS), _Rows(writers["records"], RECORDS)
            erased = frozenset(self.erased)
            work = _Reading(self.sources[0], self.sample, self.limit, records, erased, erased_ids(store) - erased)
            for item in task.inputs:
                for document in work.read(item):
                    documents.add(document)
                _refuse_changed(item, store)
            if work.again:
                raise ErasedAgainError(work.again)
            documents.flush()
            records.flush()
            files = {table: writer.close() for table, writer in writers.items()}
        return Made(files, work.ledger())


def _slices(source: SourceConfig, file: RawFile, target: int) -> list[tuple[int | None, int | None]]:
    """Return the ranges that a file is read in: the whole, or slices of about `target` bytes where it can be cut."""
    find_cuts = getattr(make_reader(source.reader, source.reader_options), "find_cuts", None)
    if find_cuts is None or file.size < 2 * target:
        return [(None, None)]
    with file.path.open("rb") as opened:
        ends = [0, *find_cuts(opened, target), file.size]
    return list(pairwise(ends)) if len(ends) > 2 else [(None, None)]


class _Rows:
    """Rows on their way into a table, written as soon as they are many or long."""

    def __init__(self, writer: TableWriter, schema: pa.Schema) -> None:
        self._writer, self._schema = writer, schema
        self._pending: list[Row] = []
        self._characters = 0

    def add(self, row: Row) -> None:
        self._pending.append(row)
        self._characters += len(row.get("text") or "")
        if len(self._pending) == BATCH_ROWS or self._characters >= BATCH_CHARACTERS:
            self.flush()

    def flush(self) -> None:
        if self._pending:
            self._writer.write(pa.RecordBatch.from_pylist(self._pending, schema=self._schema))
        self._pending, self._characters = [], 0


@dataclass
class _Fate:
    """What became of one item of a file: `row` is its line among the records, None for a document."""

    extent: Extent
    kind: str
    row: Row | None


@dataclass
class _Reading:
    """The files of one task on their way: documents are yielded, all else is counted."""

    source: SourceConfig
    sample: int | None
    limit: int | None
    records: _Rows
    erased: frozenset[str] = frozenset()
    erased_elsewhere: frozenset[str] = frozenset()
    """Ids of documents that no record knows to lie in these files; those that do are in `again`, with their places."""
    again: dict[str, set[tuple[str, int]]] = field(default_factory=dict)
    kept: Tally = field(default_factory=Tally)
    dropped: dict[str, Tally] = field(default_factory=dict)
    gaps: dict[str, int] = field(default_factory=dict)
    total: Tally = field(default_factory=Tally)
    output: Tally = field(default_factory=Tally)
    limited: set[str] = field(default_factory=set)
    """Ids of the documents so far, where there is a limit: the same record twice counts once."""

    def __post_init__(self) -> None:
        self._reader: Reader = make_reader(self.source.reader, self.source.reader_options)
        self._extractor = self.source.make_text_maker()

    def ledger(self) -> Ledger:
        """Return the ledger of all files read."""
        return Ledger(
            input=self.total,
            kept=self.kept,
            dropped=dict(sorted(self.dropped.items())),
            gaps=dict(sorted(self.gaps.items())),
            output=self.output,
        )

    def read(self, item: TaskInput) -> Iterator[Row]:
        """Yield the documents of one file, and account for all of its bytes."""
        path, position = Path(item.path), item.start or 0
        uri, end = path.as_uri(), item.size if item.end is None else item.end
        shared: list[_Fate] = []
        with _open(path, item) as file:
            for entry in self._entries(file, uri, position, end):
                if shared and shared[0].extent.offset != entry.extent.offset:
                    position = self._settle(shared, position, path)
                    shared = []
                document, fate = self._judge(entry, uri, item.content)
                shared.append(fate)
                if document is not None:
                    yield document
            if shared:
                position = self._settle(shared, position, path)
        if position != end:
            raise LedgerError(f"{path}: bytes from {position} to {end} are not accounted for; the reader lost them")
        self.total += Tally(bytes=end - (item.start or 0))

    def _entries(self, file: BinaryIO, uri: str, start: int, end: int) -> Iterator[Record | Gap]:
        """Yield what the reader finds between two offsets; a file that is not of its format is one gap."""
        window = file if start == 0 and end == file.seek(0, SEEK_END) else FileWindow(file, start, end - start)
        num_entries = 0
        try:
            for entry in self._reader.read(cast(BinaryIO, window), uri):
                num_entries += 1
                yield replace(entry, extent=replace(entry.extent, offset=entry.extent.offset + start))
        except InputError as error:
            log.warning("%s", error)
            if not num_entries:
                yield Gap(Extent(start, end - start, digest_range(file, start, end - start)), "unreadable_file")

    def _judge(self, entry: Record | Gap, uri: str, content: str) -> tuple[Row | None, _Fate]:
        """Decide about one item: a document, or a row among the records."""
        origin = _origin(entry.extent, uri)
        if isinstance(entry, Gap):
            row = self._row(origin, fate="gap", kind="gap", reason=entry.reason)
            return None, _Fate(entry.extent, "gap", row)
        doc_id = document_id(entry)
        if doc_id in self.erased_elsewhere:
            self.again.setdefault(doc_id, set()).add((content, entry.extent.offset))
        outcome = self._fetch(entry, doc_id)
        if isinstance(outcome, Dropped):
            evidence = canonical_json(outcome.evidence) if outcome.evidence else None
            row = self._row(
                origin,
                doc_id=doc_id,
                url=None if outcome.reason == ERASED else entry.url or None,
                kind=entry.kind,
                fate="dropped",
                reason=outcome.reason,
                evidence=evidence,
            )
            return None, _Fate(entry.extent, "dropped", row)
        text_bytes = len(outcome.text.encode())
        self.output += Tally(records=1, bytes=text_bytes)
        if self.limit is not None:
            self.limited.add(doc_id)
        document = {
            "doc_id": doc_id,
            "text": outcome.text,
            "url": entry.url or None,
            "source": self.source.name,
            "date": entry.date or None,
            "metadata": json.dumps(dict(outcome.metadata), sort_keys=True, ensure_ascii=False),
            "text_bytes": text_bytes,
            "payload_digest": sha256(entry.payload).hexdigest(),
            "origin": origin,
        }
        return document, _Fate(entry.extent, "kept", None)

    def _fetch(self, record: Record, doc_id: str) -> Extracted | Dropped:
        if doc_id in self.erased or doc_id in self.erased_elsewhere:
            return Dropped(ERASED)
        if self.sample is not None and int(doc_id[:8], 16) >= self.sample:
            return Dropped("not_sampled")
        if self.limit is not None and len(self.limited) >= self.limit:
            return Dropped("beyond_limit")
        return self._extractor.extract(record)

    def _row(self, origin: Row, **values: Any) -> Row:
        return dict.fromkeys(RECORDS.names) | {"source": self.source.name, "origin": origin} | values

    def _settle(self, fates: list[_Fate], position: int, path: Path) -> int:
        """Count the items of one extent; return where the next extent must begin."""
        extent = fates[0].extent
        if extent.offset != position:
            raise LedgerError(f"{path}: bytes {position} to {extent.offset} belong to no record and no gap")
        for fate, num_bytes in zip(fates, _shares(fates, path), strict=True):
            self._count(fate, num_bytes)
        return extent.offset + extent.length

    def _count(self, fate: _Fate, num_bytes: int) -> None:
        if fate.row is not None:
            fate.row["stored_bytes"] = num_bytes
            self.records.add(fate.row)
        if fate.kind == "gap" and fate.row is not None:
            reason = fate.row["reason"]
            self.gaps[reason] = self.gaps.get(reason, 0) + num_bytes
            return
        one = Tally(records=1, bytes=num_bytes)
        self.total += Tally(records=1)
        if fate.row is None:
            self.kept += one
        else:
            reason = fate.row["reason"]
            self.dropped[reason] = self.dropped.get(reason, Tally()) + one


def _shares(fates: list[_Fate], path: Path) -> list[int]:
    """Return each item's share of the stored bytes of the extent that all of them lie in."""
    length = fates[0].extent.length
    if len(fates) == 1:
        return [length]
    ends, position = [0], 0
    for fate in fates:
        if fate.extent.inner is None or fate.extent.inner[0] != position:
            raise LedgerError(f"{path}: records of the stream at {fate.extent.offset} do not follow one another")
        position = fate.extent.inner[1]
        ends.append(position)
    stored = [end * length // max(1, position) for end in ends]
    return [high - low for low, high in pairwise(stored)]


def _origin(extent: Extent, uri: str) -> Row:
    inner = None if extent.inner is None else [{"member": None, "start": extent.inner[0], "end": extent.inner[1]}]
    return {"uri": uri, "offset": extent.offset, "length": extent.length, "digest": extent.digest, "inner": inner}


def _refuse_changed(item: TaskInput, store: Store) -> None:
    """Raise `InputError` if a file is no longer what it was when it was planned: its rows would bear another's name."""
    try:
        same = store.raw_digest(Path(item.path)) == item.content
    except OSError:
        same = False
    if not same:
        raise InputError(f"{item.path}: the file changed while the build ran; start it again")


def _open(path: Path, item: TaskInput) -> Any:
    """Open a raw file as it was planned.

    Raises:
        InputError: it is gone or has another size.
    """
    try:
        if path.stat().st_size != item.size:
            raise InputError(f"{path}: has {path.stat().st_size} bytes, was planned with {item.size}; start again")
        return path.open("rb")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
