"""Conditioning prefixes: where a document is from, before its text (CTRL, Keskar et al. 2019; MeCo, Gao et al. 2025).

A prefix is a template over what stands beside the tokens. Its tokens are part of the document's line, and so of all
lengths; they are no targets.
"""

import string
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from pydantic import Field, field_validator

from headrace.filters.urls import split_url
from headrace.pipeline.schema import Strict
from headrace.pipeline.vocabulary import Vocabulary, token_dtype

Int64s = npt.NDArray[np.int64]

COLUMNS = ("order", "url", "source")
"""Beside tokens, that prefixes are made of."""
FIELDS = ("url", "domain", "source")
_SCATTER = np.uint64(0x9E3779B97F4A7C15)
_UNIT = 1 << 64


class Prefixes(NamedTuple):
    """The tokens of the prefixes of some documents, those of document `i` from `starts[i]` to `starts[i + 1]`."""

    starts: Int64s
    tokens: npt.NDArray[Any]

    @property
    def lengths(self) -> Int64s:
        """Tokens of each prefix; 0 where a document has none."""
        return np.diff(self.starts)


class Prefix(Strict, strict=False):
    """What stands before a share of the training documents: `template`, with `{url}`, `{domain}` or `{source}` in it.

    Which documents have it follows from their ids, and is the same in every epoch. One that lacks a field has none.
    """

    template: str = Field(min_length=1)
    share: float = Field(default=1.0, gt=0, le=1)

    @field_validator("template")
    @classmethod
    def _known_fields(cls, template: str) -> str:
        for _, name, form, conversion in string.Formatter().parse(template):
            if name is not None and (name not in FIELDS or form or conversion):
                raise ValueError(f"{{{name}}} is no field of a prefix; there are {', '.join(FIELDS)}")
        return template

    def make(self, table: pa.Table, vocabulary: Vocabulary) -> Prefixes:
        """Return the prefixes of documents, given the columns beside their tokens."""
        texts = [self._text(url, source) for url, source in zip(*_lists(table, "url", "source"), strict=True)]
        chosen = self._chosen(table.column("order").to_numpy())
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

    def _text(self, url: str | None, source: str) -> str | None:
        if url is None and ("{url}" in self.template or "{domain}" in self.template):
            return None
        parts = split_url(url) if url else None
        domain = (parts.domain or parts.host) if parts else ""
        return self.template.format(url=url or "", domain=domain, source=source)


def _lists(table: pa.Table, *names: str) -> list[list[Any]]:
    return [table.column(name).to_pylist() for name in names]
