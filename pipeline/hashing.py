"""Names by content: canonical JSON for records, an order-keeping fold for rows.

A JSON value is hashed through its one canonical form; what has none (NaN, a set, an object) raises.

Rows are hashed one by one (sha256 over a typed, length-prefixed encoding) and folded into one number,

    fold(rows) = sum of h_i * R^(n - i)  modulo  P,      P = 2^255 - 19,

so that fold(a + b) = fold(a) * R^len(b) + fold(b): the parts of an artifact are hashed where they are written, in any
order, and the id of the whole does not know where one part ends and the next begins. The fold guards against accidents,
not against an adversary who can choose rows; against tampering, every file has its own sha256.
"""

import hashlib
import json
import math
import struct
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import accumulate
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray
from pydantic import BaseModel

from headrace.pipeline.errors import UnstableValueError
from headrace.pipeline.row_digests import digest_rows

_PRIME = 2**255 - 19
_BASE = int.from_bytes(hashlib.sha256(b"headrace row fold 1").digest(), "big") % _PRIME
_CHUNK_BYTES = 1 << 20


def canonical_json(value: Any) -> str:
    """Return the one JSON text of a value: keys sorted, no white space, shortest floats.

    Raises:
        UnstableValueError: NaN or infinity, a set, bytes, a key that is not a string, a lone surrogate, any object.
    """
    return json.dumps(stable(value), sort_keys=True, separators=(",", ":"), ensure_ascii=False, allow_nan=False)


def stable(value: Any) -> Any:
    """Return `value` as plain dicts, lists and scalars, or raise `UnstableValueError` naming where it cannot be."""
    try:
        return _plain(value)
    except _NotPlainError:
        return _stable(value, "value")


class _NotPlainError(Exception):
    """A value that must be looked at more closely."""


def _plain(value: Any) -> Any:
    """Return what is stable at first sight, as nearly all of a record is; `_stable` looks at the rest and names it."""
    kind = type(value)
    if kind is str:
        if not value.isascii():
            raise _NotPlainError
        return value
    if value is None or kind is int or kind is bool:
        return value
    if kind is float and math.isfinite(value):
        return value + 0.0  # -0.0 and 0.0 compare equal and must hash alike
    if kind is dict:
        if not all(type(key) is str and key.isascii() for key in value):
            raise _NotPlainError
        return {key: _plain(item) for key, item in value.items()}
    if kind is list or kind is tuple:
        return [_plain(item) for item in value]
    raise _NotPlainError


def _stable(value: Any, path: str) -> Any:
    if value is None or isinstance(value, bool | int):
        return value
    if isinstance(value, str):
        return _stable_text(value, path)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise UnstableValueError(f"{path} is {value}, which has no canonical form; use a finite number or null")
        return value + 0.0  # -0.0 and 0.0 compare equal and must hash alike
    if isinstance(value, BaseModel):
        return _stable(value.model_dump(mode="json", by_alias=True), path)
    if isinstance(value, Mapping):
        for key in value:
            if not isinstance(key, str):
                raise UnstableValueError(f"{path} has the key {key!r}; only strings have a canonical order")
        return {_stable_text(key, path): _stable(item, f"{path}.{key}") for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_stable(item, f"{path}[{index}]") for index, item in enumerate(value)]
    raise UnstableValueError(f"{path} is a {type(value).__name__}, which has no canonical form; use plain data")


def _stable_text(text: str, path: str) -> str:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise UnstableValueError(f"{path} holds a lone surrogate, which has no UTF-8 form: {text!r}") from None
    return text


def digest_json(value: Any) -> str:
    """Return the sha256 (hex) of a value's canonical JSON."""
    return digest_bytes(canonical_json(value).encode())


def digest_bytes(data: bytes) -> str:
    """Return the sha256 of `data`, in hex."""
    return hashlib.sha256(data).hexdigest()


def digest_file(path: Path) -> str:
    """Return the sha256 of a file's bytes, in hex."""
    with path.open("rb") as file:
        return digest_range(file, 0, path.stat().st_size)


def digest_range(file: BinaryIO, offset: int, length: int) -> str:
    """Return the sha256 (hex) of `length` bytes from `offset`, or of what is there of them."""
    hasher = hashlib.sha256()
    file.seek(offset)
    while length > 0 and (chunk := file.read(min(length, _CHUNK_BYTES))):
        hasher.update(chunk)
        length -= len(chunk)
    return hasher.hexdigest()


@dataclass(frozen=True, slots=True)
class Fold:
    """The order-keeping hash of some rows: how many, and their folded digests."""

    rows: int = 0
    value: int = 0

    def __add__(self, other: "Fold") -> "Fold":
        """Return the fold of these rows followed by the other's."""
        return Fold(self.rows + other.rows, (self.value * pow(_BASE, other.rows, _PRIME) + other.value) % _PRIME)

    def hex(self) -> str:
        """Return the folded value as 64 hex digits."""
        return f"{self.value:064x}"

    @classmethod
    def parse(cls, rows: int, text: str) -> "Fold":
        """Read back what `hex` wrote."""
        return cls(rows, int(text, 16))

    def content_id(self, schema: pa.Schema) -> str:
        """Return the content id of a table with these rows and this schema's columns and types."""
        columns = [[field.name, type_name(field.type)] for field in content_fields(schema)]
        return digest_json({"columns": columns, "rows": self.rows, "fold": self.hex()})


def type_name(kind: pa.DataType) -> str:
    """Return an Arrow type as text; what the items of a list are called, which Parquet changes, is left out."""
    if pa.types.is_list(kind):
        return f"list<{type_name(kind.value_type)}>"
    if pa.types.is_struct(kind):
        return f"struct<{', '.join(f'{field.name}: {type_name(field.type)}' for field in kind)}>"
    return str(kind)


LOCATION_COLUMNS = frozenset({"origin", "stored_bytes"})
"""Columns that say where bytes lie: stored and verified, and no part of a content id."""


def content_fields(schema: pa.Schema) -> list[pa.Field]:
    """Return the fields that a content id covers."""
    return [field for field in schema if field.name not in LOCATION_COLUMNS]


def fold_batch(batch: pa.RecordBatch) -> Fold:
    """Return the fold of a batch's rows, location columns left out."""
    fields = content_fields(batch.schema)
    digests = digest_rows([batch.column(field.name) for field in fields])
    if digests is None:
        columns = [_encode_column(batch.column(field.name), field.type) for field in fields]
        digests = b"".join([hashlib.sha256(b"".join(row)).digest() for row in zip(*columns, strict=True)])
    total = Fold()
    for start in range(0, len(digests), _FOLDED_ROWS * _DIGEST_BYTES):
        total += _fold_digests(digests[start : start + _FOLDED_ROWS * _DIGEST_BYTES])
    return total


_DIGEST_BYTES = 32
_LIMBS, _LIMB_BITS = 16, 16
_FOLDED_ROWS = 4096
"""Rows folded at once: sums of so many products of two limbs of 16 bits are below 2^53, so exact in any order."""


def _fold_digests(digests: bytes) -> Fold:
    """Return the fold of some rows' digests: one product of matrices, of their limbs and of those of powers of R."""
    limbs = _limbs(digests)
    sums = limbs.T @ _powers()[-len(limbs) :]
    value = sum(int(sums[i, j]) << _LIMB_BITS * (2 * _LIMBS - 2 - i - j) for i in range(_LIMBS) for j in range(_LIMBS))
    return Fold(len(limbs), value % _PRIME)


@cache
def _powers() -> NDArray[np.float64]:
    """Return the limbs of R^n for n from `_FOLDED_ROWS` - 1 down to 0."""
    powers = accumulate(range(1, _FOLDED_ROWS), lambda power, _: power * _BASE % _PRIME, initial=1)
    return _limbs(b"".join(power.to_bytes(_DIGEST_BYTES, "big") for power in reversed(list(powers))))


def _limbs(numbers: bytes) -> NDArray[np.float64]:
    """Return numbers of 32 bytes, big-endian, as lines of limbs, the highest first."""
    return np.frombuffer(numbers, ">u2").reshape(-1, _LIMBS).astype(np.float64)


def fold_batches(batches: Iterable[pa.RecordBatch]) -> Fold:
    """Return the fold of all rows of some batches, in order."""
    total = Fold()
    for batch in batches:
        total += fold_batch(batch)
    return total


_NULL = b"\x00"
_PACK_INT = struct.Struct("<bq").pack
_PACK_FLOAT = struct.Struct("<bd").pack
_PACK_LENGTH = struct.Struct("<bQ").pack


def _encode_column(column: pa.Array, kind: pa.DataType) -> Sequence[bytes]:
    if pa.types.is_string(kind):
        column, kind = column.cast(pa.binary()), pa.binary()  # spares decoding and encoding every text
    encode = _encoder(kind)
    return [encode(value) for value in column.to_pylist()]


def _encoder(kind: pa.DataType) -> Callable[[Any], bytes]:
    """Return the function that encodes one value of an Arrow type: null flag, then a fixed or length-prefixed form.

    Widths of integers, and `string` against `large_string`, do not matter; the schema in the content id names them.
    """
    if pa.types.is_uint64(kind):
        return lambda v: _NULL if v is None else _PACK_LENGTH(1, v)
    if pa.types.is_integer(kind) or pa.types.is_boolean(kind):
        return lambda v: _NULL if v is None else _PACK_INT(1, v)
    if pa.types.is_floating(kind):
        return _encode_float
    if pa.types.is_string(kind) or pa.types.is_large_string(kind):
        return lambda v: _NULL if v is None else _prefixed(v.encode())
    if pa.types.is_binary(kind) or pa.types.is_large_binary(kind):
        return lambda v: _NULL if v is None else _prefixed(v)
    if pa.types.is_list(kind) or pa.types.is_large_list(kind):
        item = _encoder(kind.value_type)
        return lambda v: _NULL if v is None else _PACK_LENGTH(1, len(v)) + b"".join(map(item, v))
    if pa.types.is_struct(kind):
        fields = [(field.name, _encoder(field.type)) for field in kind]
        return lambda v: _NULL if v is None else b"\x01" + b"".join(enc(v[name]) for name, enc in fields)
    raise UnstableValueError(f"no canonical form is defined for columns of type {kind}")


def _prefixed(data: bytes) -> bytes:
    return _PACK_LENGTH(1, len(data)) + data


def _encode_float(value: float | None) -> bytes:
    if value is None:
        return _NULL
    if not math.isfinite(value):
        raise UnstableValueError(f"a column holds {value}; undefined is null, never NaN or infinite")
    return _PACK_FLOAT(1, value + 0.0)
