"""Tokens for other trainers: the documents that a plan serves in an epoch, as Megatron, nanoGPT and MDS read them.

Each document is its tokens and `<|endoftext|>`; documents come in the order of storage, which is a fair mixture, each
as often as it is repeated. What was taken down is left out. Rows, order and mixture are those trainers' own affair.
"""

import secrets
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.errors import InputError
from headrace.pipeline.store import writing
from headrace.trainer.exports.mds import MDSWriter
from headrace.trainer.exports.megatron import IndexedWriter
from headrace.trainer.stream import Stream
from headrace.trainer.streaming.corpus import Corpus

SPLITS: Mapping[str, str] = MappingProxyType({"train": "train", "heldout": "val"})
"""What others call our splits."""


class Writer(Protocol):
    """Writes documents in one format."""

    def add(self, doc_id: str, tokens: NDArray[Any]) -> None:
        """Write a document."""
        ...

    def close(self) -> None:
        """Finish all files."""
        ...


@dataclass(frozen=True)
class Exported:
    """What was written of a split of a corpus."""

    path: str
    split: str
    documents: int
    tokens: int


FORMATS: Mapping[str, Callable[[Path, np.dtype[Any]], Writer]] = MappingProxyType(
    {"megatron": IndexedWriter, "mds": MDSWriter}
)
"""`megatron` writes PREFIX.bin and PREFIX.idx; where tokens are of 16 bits, nanoGPT reads the first as it is."""


def export_tokens(stream: Stream, form: str, out: Path) -> list[Exported]:
    """Write the documents of each corpus and split of a plan into a folder, which must not be there yet.

    Raises:
        InputError: the folder is there, the format is unknown, or the plan serves no tokens.
        IntegrityError: what is stored is damaged.
    """
    if form not in FORMATS:
        raise InputError(f"{form!r} is no format of tokens; there are {', '.join(FORMATS)}")
    if stream.plan.packing == "document":
        raise InputError("packing = 'document' serves no tokens, and exports are tokens; choose another packing")
    if out.exists():
        raise InputError(f"{out}: is there already; name a new folder")
    aside = out.with_name(f".{out.name}-{secrets.token_hex(4)}")
    with writing(out):
        aside.mkdir(parents=True)
        try:
            found = [
                _export(corpus, number, split, form, aside)
                for number, corpus in enumerate(stream.corpora)
                for split in SPLITS
            ]
            aside.rename(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return [Exported(str(out / one.path), one.split, one.documents, one.tokens) for one in found]


def _export(corpus: Corpus, number: int, split: str, form: str, folder: Path) -> Exported:
    name = f"corpus{number}-{SPLITS[split]}"
    documents = _documents(corpus, split)
    dtype = np.dtype("<u2") if int(corpus.tokens.facts["token_bytes"]) == 2 else np.dtype("<i4")
    writer = FORMATS[form](folder / name, dtype)
    count = total = 0
    for doc_id, tokens in documents:
        writer.add(doc_id, tokens.astype(dtype, copy=False))
        count, total = count + 1, total + len(tokens)
    writer.close()
    return Exported(name, split, count, total)


def _documents(corpus: Corpus, split: str) -> Iterator[tuple[str, NDArray[Any]]]:
    """Yield ids and tokens of the documents that an epoch serves."""
    table, end = corpus.table(split), corpus.vocabulary.end_of_text
    for number in range(len(table)):
        window = table.read(number)
        for serving in np.flatnonzero(~window.masked).tolist():
            begin = int(window.begins[serving])
            tokens = window.tokens[begin : begin + int(window.layout.num_tokens[serving])]
            yield window.doc_id(serving), np.append(tokens, tokens.dtype.type(end))
