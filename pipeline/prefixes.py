"""Conditioning prefixes: where a document is from, before its text (CTRL, Keskar et al. 2019; MeCo, Gao et al. 2025).

A prefix is a template over what stands beside the tokens. Its tokens are part of the document's line, and so of all
lengths; they are no targets.
"""

import json
import string
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple, Self, TypeGuard

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, model_validator

from headrace.filters.urls import split_url
from headrace.pipeline.hashing import canonical_json
from headrace.pipeline.schema import Strict
from headrace.pipeline.tables import as_numbers
from headrace.pipeline.vocabulary import Vocabulary, token_dtype

Int64s = npt.NDArray[np.int64]

FIELDS = ("url", "domain", "source")
_METADATA, _BUCKET = "metadata.", "bucket."
_SCATTER = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 1 << 64


def metadata_of(table: pa.Table) -> list[dict[str, Any]]:
    """Return the metadata of the documents of a token table."""
    return [json.loads(text or "{}") for text in table.column("metadata").to_pylist()]


class Prefixes(NamedTuple):
    """The tokens of the prefixes of some documents, those of document `i` from `starts[i]` to `starts[i + 1]`."""

    starts: Int64s
    tokens: npt.NDArray[Any]

    @property
    def lengths(self) -> Int64s:
        """Tokens of each prefix; 0 where a document has none."""
        return np.diff(self.starts)


class Prefix(Strict, strict=False):
    """What stands before a share of the training documents: a `template` with fields in it.

    Fields are `{url}`, `{domain}`, `{source}`, `{metadata.NAME}`, and `{bucket.NAME}`: how many of the ascending edges
    that `buckets` has for a name are at most the number that the metadata has for it. Which documents have a prefix
    follows from their ids, and is the same in every epoch. One that lacks a field has none.
    """

    template: str = Field(min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)
    buckets: dict[str, tuple[float, ...]] = {}

    @model_validator(mode="after")
    def _known_fields(self) -> Self:
        for _, name, form, conversion in string.Formatter().parse(self.template):
            known = name in (None, *FIELDS) or (name or "").startswith((_METADATA, _BUCKET))
            if not known or form or conversion:
                fields = ", ".join((*FIELDS, "metadata.NAME", "bucket.NAME"))
                raise ValueError(f"{{{name}}} is no field of a prefix; there are {fields}")
            bucket = (name or "").removeprefix(_BUCKET)
            if bucket != (name or "") and bucket not in self.buckets:
                raise ValueError(f"{{{name}}}: buckets has no edges for {bucket!r}")
        for name, edges in self.buckets.items():
            if not edges or list(edges) != sorted(set(edges)):
                raise ValueError(f"buckets: the edges of {name!r}, {list(edges)}, must ascend")
        return self

    @property
    def _fields(self) -> list[str]:
        return [name for _, name, _, _ in string.Formatter().parse(self.template) if name is not None]

    @property
    def columns(self) -> tuple[str, ...]:
        """The columns beside tokens that prefixes are made of."""
        more = ("metadata",) if any(name.startswith((_METADATA, _BUCKET)) for name in self._fields) else ()
        return ("order", "url", "source", *more)

    def make(self, table: pa.Table, vocabulary: Vocabulary) -> Prefixes:
        """Return the prefixes of documents, given the columns beside their tokens."""
        texts = self._texts(table)
        chosen = self._chosen(as_numbers(table.column("order")))
        wanted = [text if take else None for text, take in zip(texts, chosen.tolist(), strict=True)]
        different = sorted({text for text in wanted if text})
        encoded = dict(zip(different, vocabulary.encode_batch(different), strict=True)) if different else {}
        nothing = np.zeros(0, token_dtype(vocabulary.token_bytes))
        found = [encoded[text] if text else nothing for text in wanted]
        starts = np.concatenate([[0], np.cumsum([len(tokens) for tokens in found])]).astype(np.int64)
        return Prefixes(starts, np.concatenate([nothing, *found]))

    def _chosen(self, orders: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
        """Tell which documents are of the share, by a hash of their order."""
        if self.share == 1:
            return np.ones(len(orders), dtype=bool)
        with np.errstate(over="ignore"):
            mixed = orders.astype(np.uint64) * _SCATTER
        chosen: npt.NDArray[np.bool_] = (mixed ^ (mixed >> np.uint64(32))) < np.uint64(int(self.share * _UNIT))
        return chosen

    def _texts(self, table: pa.Table) -> list[str | None]:
        """Return the prefix of each document; None where it lacks a field."""
        pieces = [(literal, name) for literal, name, _, _ in string.Formatter().parse(self.template)]
        metadata = metadata_of(table) if "metadata" in self.columns else []
        wanted = {name: self._values(name, table, metadata) for name in dict.fromkeys(self._fields)}
        texts: list[str | None] = []
        for row in range(table.num_rows):
            values = [(literal, "" if name is None else wanted[name][row]) for literal, name in pieces]
            texts.append(None if any(v is None for _, v in values) else "".join(f"{one}{v}" for one, v in values))
        return texts

    def _values(self, name: str, table: pa.Table, metadata: Sequence[Mapping[str, Any]]) -> list[str | None]:
        """Return a field of each document, as text."""
        if name in ("url", "source"):
            found: list[str | None] = table.column(name).to_pylist()
            return found
        if name == "domain":
            return [_domain(url) for url in table.column("url").to_pylist()]
        key = name.partition(".")[2]
        values = [one.get(key) for one in metadata]
        if name.startswith(_METADATA):
            return [_as_text(value) for value in values]
        edges = self.buckets[key]
        return [str(bisect_right(edges, value)) if _is_number(value) else None for value in values]


def _domain(url: str | None) -> str | None:
    if not url:
        return None
    parts = split_url(url)
    return parts.domain or parts.host


def _is_number(value: Any) -> TypeGuard[int | float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_text(value: Any) -> str | None:
    """Return a string, number or flag of the metadata as text; None where it is another thing, or nothing."""
    if isinstance(value, str):
        return value
    return canonical_json(value) if isinstance(value, bool | int | float) else None
