"""The contract of everything that is stored: Arrow schemas of the tables, models of the JSON records.

`docs/format.md` is this module in words. Every JSON record carries `schema_version` and its own `digest`, is written in
one canonical rendering, and is refused when a newer program wrote it. Anything that time, host or place can change
stands under `provenance` or in the location columns, outside keys and content ids.
"""

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import pyarrow as pa
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)

from headrace.pipeline.errors import IntegrityError, LedgerError, StoreError
from headrace.pipeline.hashing import Fold, canonical_json, digest_bytes, digest_json

SCHEMA_VERSION = 1

# ---------------------------------------------------------------------------------------------------------- tables

INNER = pa.list_(pa.struct([("member", pa.string()), ("start", pa.int64()), ("end", pa.int64())]))
ORIGIN = pa.struct(
    [
        ("uri", pa.string()),
        ("offset", pa.int64()),
        ("length", pa.int64()),
        ("digest", pa.string()),
        ("inner", INNER),
    ]
)
SPANS = pa.list_(
    pa.struct([("start", pa.int64()), ("end", pa.int64()), ("label", pa.string()), ("replacement", pa.string())])
)

DOCUMENTS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("text", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("date", pa.string()),
        ("metadata", pa.string()),
        ("text_bytes", pa.int64()),
        ("payload_digest", pa.string()),
        ("origin", ORIGIN),
    ]
)
"""What readers make. `metadata` is a JSON object; `text_bytes` the UTF-8 length of `text`, to spare reading it;
`payload_digest` the SHA-256, in hexadecimal digits, of the bytes that the text was extracted from."""

RECORDS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("url", pa.string()),
        ("source", pa.string()),
        ("kind", pa.string()),
        ("fate", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
        ("stored_bytes", pa.int64()),
        ("origin", ORIGIN),
    ]
)
"""Every record that did not become a document, and every gap: the other half of the ledger, row by row."""

VERDICTS = pa.schema(
    [
        ("doc_id", pa.string()),
        ("kept", pa.bool_()),
        ("reason", pa.string()),
        ("failed", pa.list_(pa.int16())),
        ("evidence", pa.string()),
        ("survivor", pa.string()),
        ("cluster", pa.string()),
        ("cluster_size", pa.int64()),
        ("text_bytes", pa.int64()),
    ]
)
"""One row a document, in the rows' order. `kept` is null where an earlier stage had dropped the document; `failed` are
the numbers of all rules that it fails, of those in the manifest's config, and null where no rules were asked."""

FINDINGS = pa.schema(
    [
        ("row", pa.int64()),
        ("doc_id", pa.string()),
        ("reason", pa.string()),
        ("evidence", pa.string()),
        ("survivor", pa.string()),
        ("cluster", pa.string()),
        ("cluster_size", pa.int64()),
    ]
)
"""What a global stage found: only the documents concerned. `row` counts the documents of all parts in row order;
`reason` is null for a cluster's survivor."""

CORPUS = pa.schema(
    [
        *[field for field in DOCUMENTS if field.name != "origin"],
        pa.field("split_key", pa.string()),
        pa.field("cluster", pa.string()),
        pa.field("cluster_size", pa.int64()),
        DOCUMENTS.field("origin"),
    ]
)
"""What `cut` makes: the text as people read it, and what the trainer must know about the document."""

TOKENS = pa.schema(
    [
        ("order", pa.uint64()),
        ("doc_id", pa.string()),
        ("tokens", pa.binary()),
        ("num_tokens", pa.int64()),
        ("num_bytes", pa.int64()),
        ("source", pa.string()),
        ("split_key", pa.string()),
        ("cluster", pa.string()),
        ("cluster_size", pa.int64()),
        ("url", pa.string()),
        ("metadata", pa.string()),
        ("text", pa.string()),
    ]
)
"""One row a document, by `order`, a hash of `doc_id`. `tokens` are little-endian uint16 or uint32, without specials;
the width stands in the manifest's facts (`token_bytes`). `text` is null but where a recipe asks for it."""

STREAM_INDEX = pa.schema(
    [
        ("split", pa.string()),
        ("part", pa.int64()),
        ("first_document", pa.int64()),
        ("num_documents", pa.int64()),
        ("num_served", pa.int64()),
        ("num_positions", pa.int64()),
        ("num_bytes", pa.int64()),
        ("num_rows", pa.int64()),
        ("num_split", pa.int64()),
        ("most_pieces", pa.int64()),
    ]
)
"""One row a storage window and split: which documents it spans, and what they are packed into: rows, documents that are
cut, pieces in the row that has most."""

PAIRS = pa.schema([("left", pa.string()), ("right", pa.string()), ("shared", pa.int64()), ("total", pa.int64())])
"""Contents that were compared by their shingles, the smaller one left: how many both have, how many one of them has."""

MATCHES = pa.schema(
    [("doc_id", pa.string()), ("text_bytes", pa.int64()), ("windows", pa.binary()), ("texts", pa.string())]
)
"""One row a document. `windows` are the n-grams of evaluation items that stand in it, each as three uint32 (number in
the index, bytes `[start, end)` of the text), null where there are none; `texts` a JSON list of the items that it holds
most of, with the first words that are the same."""

THRESHOLDS = pa.schema(
    [("column", pa.string()), ("threshold", pa.float64()), ("documents", pa.int64()), ("reached", pa.int64())]
)
"""One row: the value that the best share of `documents` (the kept ones that have a value) reaches, and how many do."""

TABLES: Mapping[str, pa.Schema] = {
    "documents": DOCUMENTS,
    "records": RECORDS,
    "verdicts": VERDICTS,
    "findings": FINDINGS,
    "pairs": PAIRS,
    "matches": MATCHES,
    "thresholds": THRESHOLDS,
    "corpus": CORPUS,
    "tokens": TOKENS,
    "stream_index": STREAM_INDEX,
}
"""Fixed tables by name. A side table (`signals`) has `doc_id`, `text_bytes` and one column per signal column."""

# ------------------------------------------------------------------------------------------------------------ JSON

Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
Count = Annotated[int, Field(ge=0)]
Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]*$")]
"""What stages and tables are called; folders and files have their names from it."""
FileName = Annotated[str, Field(pattern=r"^[A-Za-z0-9_][A-Za-z0-9_.-]*$")]
"""The name of a file in the folder of its task or artifact: never a path, never hidden."""


class Strict(BaseModel):
    """Frozen; an unknown key or a value of another type is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True, populate_by_name=True)


class Tally(Strict):
    """How many, and how many bytes of them."""

    records: Count = 0
    bytes: Count = 0

    def __add__(self, other: "Tally") -> "Tally":
        """Return both together."""
        return Tally(records=self.records + other.records, bytes=self.bytes + other.bytes)


class Ledger(Strict):
    """Where everything went that came in (law 2).

    `input` is what the task was given: records and stored bytes for a reader, documents and text bytes after it. Each
    is kept, dropped for a reason, merged or expanded; `gaps` are bytes of no record. `output` is what was written, in
    documents and text bytes; `edits` explains the difference that `cut` makes to kept text (bytes by kind, negative
    where text was taken away).
    """

    input: Tally = Tally()
    kept: Tally = Tally()
    dropped: dict[str, Tally] = {}
    merged: Tally = Tally()
    expanded: Tally = Tally()
    gaps: dict[str, Count] = {}
    passed: Tally = Tally()
    output: Tally = Tally()
    edits: dict[str, int] = {}

    def __add__(self, other: "Ledger") -> "Ledger":
        """Return the ledger of both tasks together."""
        return Ledger(
            input=self.input + other.input,
            kept=self.kept + other.kept,
            dropped=_sum_by_key(self.dropped, other.dropped, Tally()),
            merged=self.merged + other.merged,
            expanded=self.expanded + other.expanded,
            gaps=_sum_by_key(self.gaps, other.gaps, 0),
            passed=self.passed + other.passed,
            output=self.output + other.output,
            edits=_sum_by_key(self.edits, other.edits, 0),
        )

    def check(self, what: str) -> None:
        """Raise `LedgerError` unless the input is exactly kept + dropped + merged + expanded (+ gaps, in bytes)."""
        ends = sum(self.dropped.values(), self.kept + self.merged + self.expanded + self.passed)
        num_bytes = ends.bytes + sum(self.gaps.values())
        if (ends.records, num_bytes) != (self.input.records, self.input.bytes):
            raise LedgerError(
                f"the ledger of {what} does not add up: {self.input.records} records and {self.input.bytes} bytes came "
                f"in, {ends.records} records and {num_bytes} bytes are accounted for"
            )


def _sum_by_key(left: Mapping[str, Any], right: Mapping[str, Any], zero: Any) -> dict[str, Any]:
    return {key: left.get(key, zero) + right.get(key, zero) for key in sorted({*left, *right})}


class RowGroup(Strict):
    """A row group's bytes in its file, with their sha256."""

    offset: Count
    length: Count
    rows: Count
    sha256: Digest


class StoredFile(Strict):
    """One file of a part. Tables have rows, a fold and row groups; other files (a tokenizer) have their bytes alone."""

    name: FileName
    bytes: Count
    sha256: Digest
    content: Digest
    rows: Count | None = None
    fold: Digest | None = None
    row_groups: tuple[RowGroup, ...] = ()
    footer: Digest | None = None
    """sha256 of what comes after the last row group; None in records that are older than it."""

    @property
    def footer_start(self) -> int:
        """Where the last row group ends."""
        return max((group.offset + group.length for group in self.row_groups), default=0)

    @model_serializer(mode="wrap")
    def _leave_out_what_was_added(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        return {name: value for name, value in fields.items() if name != "footer" or value is not None}


class TaskInput(Strict):
    """What a task reads: `role`, `content` and the range `[start, end)` are in its key, `path` and `size` are not.

    A range is given where a raw file is shared among tasks; else both ends are null and all of it is read.
    """

    role: str
    content: Digest
    path: str
    size: Count = 0
    start: Count | None = None
    end: Count | None = None


class Task(Strict):
    """One unit of work, as plain data that any engine can carry: enough to run it anywhere the store can be seen."""

    stage: Word
    version: int
    config: dict[str, Any]
    resources: dict[str, str]
    inputs: tuple[TaskInput, ...]

    @property
    def key(self) -> str:
        """The task's name: stage, version, config, resources and the content of its inputs (law 1)."""
        inputs = [
            [item.role, item.content] if item.start is None else [item.role, item.content, item.start, item.end]
            for item in self.inputs
        ]
        return digest_json(
            {
                "stage": self.stage,
                "version": self.version,
                "config": self.config,
                "resources": self.resources,
                "inputs": inputs,
            }
        )


class Signed(Strict):
    """A JSON record that names its schema version and carries the digest of all its other fields."""

    schema_version: int = SCHEMA_VERSION
    digest: str = ""

    @model_validator(mode="after")
    def _sign(self) -> Self:
        fields = self.model_dump(mode="json", exclude={"digest"})
        digest = digest_json(fields)
        if not self.digest:
            object.__setattr__(self, "digest", digest)
        elif self.digest != digest:
            raise ValueError(f"digest is {self.digest}, but the fields have {digest}")
        return self

    def render(self) -> bytes:
        """Return the record's one rendering as bytes."""
        return (canonical_json(self.model_dump(mode="json")) + "\n").encode()

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a record, and refuse one of a newer schema or one whose bytes changed since it was written.

        Raises:
            StoreError: it is absent or a newer program wrote it.
            IntegrityError: it is not the record that was written.
        """
        try:
            data = path.read_bytes()
        except OSError as error:
            raise StoreError(
                f"{path}: cannot be read ({error.strerror}); name a manifest or store that exists"
            ) from None
        return cls.parse(data, str(path))

    @classmethod
    def parse(cls, data: bytes, where: str) -> Self:
        """Read a record from bytes; see `load`."""
        refuse_newer(data, where)
        try:
            record = cls.model_validate_json(data)
        except ValidationError as error:
            first = error.errors()[0]
            field = ".".join(map(str, first["loc"])) or "digest"
            raise IntegrityError(f"{where}: the record is damaged at {field}: {first['msg']}") from None
        # The digest is that of the rendering without it, so these bytes are the rendering if theirs is the same.
        rest = data.removesuffix(b"\n").replace(f'"digest":"{record.digest}",'.encode(), b"", 1)
        if digest_bytes(rest) != record.digest or not data.endswith(b"\n"):
            raise IntegrityError(f"{where}: the record's bytes are not those that were written")
        return record


def refuse_newer(data: bytes, where: str) -> None:
    """Raise `StoreError` if a JSON record says that a newer schema wrote it."""
    import json

    try:
        version = json.loads(data)["schema_version"]
    except (ValueError, KeyError, TypeError):
        raise IntegrityError(f"{where}: not a record of Headrace (no JSON object with schema_version)") from None
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise StoreError(
            f"{where}: written with schema {version}, this program knows {SCHEMA_VERSION}; update headrace to read it"
        )


class Commit(Signed):
    """What a finished task made. The first commit under a task's key wins; `provenance` says when and with what."""

    task: Task
    files: dict[Word, StoredFile]
    ledger: Ledger
    facts: dict[str, int | str] = {}
    provenance: dict[str, str | float | int] = {}

    @property
    def key(self) -> str:
        """The task's key."""
        return self.task.key


class Part(Strict):
    """One task of an artifact: its key, and its files by table."""

    task: Digest
    inputs: tuple[TaskInput, ...]
    files: dict[Word, StoredFile]
    facts: dict[str, int | str] = {}


class Upstream(Strict):
    """An artifact that this one was made from."""

    role: str
    stage: Word
    key: Digest
    content: Digest


class Manifest(Signed):
    """An artifact: what it is made of, in order, and that it all adds up. Written last."""

    stage: Word
    name: str
    table: Word
    key: Digest
    content: Digest
    contents: dict[str, Digest]
    rows: Count
    config: dict[str, Any]
    resources: dict[str, str]
    inputs: tuple[Upstream, ...]
    parts: tuple[Part, ...]
    ledger: Ledger
    facts: dict[str, int | str] = {}
    provenance: dict[str, str | float | int] = {}


def artifact_key(task_keys: Iterable[str]) -> str:
    """Return the key of the artifact that these tasks make, in order."""
    return digest_json(list(task_keys))


def combined_content(parts: Iterable[StoredFile], schema: pa.Schema | None) -> str:
    """Return the content id of parts in order: of their rows for tables, of their bytes for other files."""
    files = list(parts)
    if schema is None:
        return digest_json([file.content for file in files])
    total = Fold()
    for file in files:
        if file.rows is None or file.fold is None:
            raise IntegrityError(f"{file.name}: a table's record lacks its rows or fold")
        total += Fold.parse(file.rows, file.fold)
    return total.content_id(schema)


class StoreRecord(Signed):
    """`store.json`: this folder is a store, and of which schema."""

    kind: Literal["headrace.store"] = "headrace.store"


class NamedArtifact(Signed):
    """What a name of an artifact stands for (`names/`); the only record of an artifact that is ever replaced."""

    kind: Literal["headrace.name"] = "headrace.name"
    stage: Word
    name: str
    key: Digest
    content: Digest


class RawInput(Signed):
    """A raw input's sha256, remembered by where it lay, how large it was and when it changed last."""

    uri: str
    size: Count
    mtime_ns: int
    sha256: Digest
