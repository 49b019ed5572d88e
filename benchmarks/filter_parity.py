"""Do our signals and rules decide as datatrove's blocks do?

`python -m benchmarks.filter_parity FILE... [--words english|spacy] [--json]`

A file is a WARC, whose pages are extracted once, or a book (`.txt`, `.txt.gz`), which is cut into pages of
paragraphs; then FineWeb's filters are compared one by one and as a chain in its order, the text that C4 leaves and
the text with addresses redacted character by character, MinHash signatures bit by bit, and the clusters of
datatrove's four MinHash stages with ours. With `--words spacy` our signals count the words that spaCy itself cuts.
"""

import gzip
import json
import sys
import warnings
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from benchmarks.datatrove_reference import (
    document,
    minhash_step,
    reference_dedup,
    reference_judges,
    reference_redaction,
    reference_signature,
)
from headrace.filters.contract import TextBatch, signal_classes
from headrace.filters.judging import failures, first_failures
from headrace.filters.rules import ColumnId, Rule
from headrace.filters.spans import Span, View, apply_spans
from headrace.filters.words import Words
from headrace.pipeline.dedup.buckets import Buckets
from headrace.pipeline.dedup.entries import fixed_hashes, make_entries
from headrace.pipeline.dedup.resolving import resolve_components
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.recipe_steps import RulesStep

Reasons = list[str | None]
PAGE_CHARS = 5000


@dataclass(frozen=True)
class Comparison:
    """How two filters decided over the same documents; for edits and signatures, `kept` means equal to the peer's."""

    name: str
    documents: int
    both_keep: int
    both_drop: int
    ours_only: int
    theirs_only: int
    same_reason: int

    @classmethod
    def of(cls, name: str, ours: Reasons, theirs: Reasons) -> "Comparison":
        """Compare reasons for dropping, None for kept."""
        pairs = list(zip(ours, theirs, strict=True))
        return cls(
            name,
            documents=len(pairs),
            both_keep=sum(a is None and b is None for a, b in pairs),
            both_drop=sum(a is not None and b is not None for a, b in pairs),
            ours_only=sum(a is None and b is not None for a, b in pairs),
            theirs_only=sum(a is not None and b is None for a, b in pairs),
            same_reason=sum(a == b for a, b in pairs),
        )

    @classmethod
    def of_values(cls, name: str, ours: Sequence[Any], theirs: Sequence[Any]) -> "Comparison":
        """Compare values; a document whose values differ counts as kept by the peer alone."""
        return cls.of(
            name, [None if a == b else "other" for a, b in zip(ours, theirs, strict=True)], [None] * len(ours)
        )

    @property
    def agreement(self) -> float:
        """Share of documents on which both decide alike."""
        return (self.both_keep + self.both_drop) / self.documents if self.documents else 1.0

    def as_row(self) -> dict[str, Any]:
        """Return the figures as benchmarks print them."""
        kept = {"ours": self.both_keep + self.ours_only, "peer": self.both_keep + self.theirs_only}
        row = {"name": self.name, **kept, "unit": "documents kept", "ratio": self.agreement, "spread": 0.0}
        counts = ("documents", "both_keep", "both_drop", "ours_only", "theirs_only", "same_reason")
        return {**row, "required": 1.0, **{count: getattr(self, count) for count in counts}}


def load_texts(path: Path) -> list[str]:
    """Return the texts of a WARC, or the pages of a book."""
    if ".txt" not in path.suffixes:
        return extract_texts(path)
    with gzip.open(path, "rt", encoding="utf-8") if path.suffix == ".gz" else path.open(encoding="utf-8") as file:
        return list(cut_pages(file.read()))


def cut_pages(book: str, page_chars: int = PAGE_CHARS) -> Iterator[str]:
    """Yield pages of whole lines, each ending with the line that brings it to `page_chars` characters."""
    page: list[str] = []
    size = 0
    for line in book.splitlines(keepends=True):
        page.append(line)
        size += len(line)
        if size >= page_chars:
            yield "".join(page).strip()
            page, size = [], 0
    if "".join(page).strip():
        yield "".join(page).strip()


def extract_texts(path: Path, limit: int | None = None) -> list[str]:
    """Return the main text of each page of a WARC that has one."""
    return [text for text, _ in zip(_extracted(path), range(limit or sys.maxsize), strict=False)]


def _extracted(path: Path) -> Iterator[str]:
    from fastwarc.warc import ArchiveIterator, WarcRecordType

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of proxies that urllib3 could use with another package
        from trafilatura import extract

    with path.open("rb") as file:
        for record in ArchiveIterator(file, record_types=WarcRecordType.response):
            text = extract(record.reader.read(), favor_precision=True, include_comments=False)
            if text:
                yield text


def measured(name: str, texts: Sequence[str], view: str = "raw", words: Words = "english") -> dict[str, Sequence[Any]]:
    """Return a signal's columns by id; `view` only names them, the texts are those of the view."""
    cls: Any = signal_classes()[name]
    chosen = {"words": words} if "words" in [field.name for field in fields(cls)] else {}
    values = cls(**chosen).measure(TextBatch(texts, [""] * len(texts)))
    return {str(ColumnId(name, view, column)): column_values for column, column_values in values.items()}


def fineweb_rules() -> dict[str, list[Rule]]:
    """Return the rules of the recipe that follows FineWeb, by the signal that they judge: one of datatrove's blocks."""
    steps = [step for step in load_recipe("web-en").steps if isinstance(step, RulesStep)]
    groups: dict[str, list[Rule]] = {}
    for rule in (rule for step in steps for rule in step.composed()):
        groups.setdefault(ColumnId.parse(rule.column).signal, []).append(rule)
    return groups


def our_reasons(groups: Sequence[str], columns: Mapping[str, Sequence[Any]]) -> Reasons:
    """Return each text's first reason to be dropped by the rules of some groups."""
    rules = [rule for group in groups for rule in fineweb_rules()[group]]
    return [None if index < 0 else rules[index].reason for index in first_failures(failures(rules, columns))]


def without_c4(texts: Sequence[str], removed: Sequence[Sequence[Span]]) -> list[str]:
    """Return the view `c4` of each text."""
    return [View.without(text, spans).text for text, spans in zip(texts, removed, strict=True)]


def compare_filters(texts: Sequence[str], words: Words = "english") -> Iterator[Comparison]:
    """Compare each filter alone on the same texts, C4's edit where both keep the page, and the chain."""
    groups = tuple(fineweb_rules())
    alone, chained, edited = _reference_reasons(texts)
    columns: dict[str, Sequence[Any]] = {}
    for name in groups:
        columns |= measured(name, texts, "c4" if name == "fineweb" else "raw", words)
        yield Comparison.of(name, our_reasons([name], columns), alone[name])
    views = without_c4(texts, columns["c4.removed"])
    kept = [i for i, reason in enumerate(alone["c4"]) if reason is None]
    yield Comparison.of_values("c4 text", [views[i] for i in kept], [edited[i] for i in kept])
    columns |= measured("fineweb", views, "c4", words)
    yield Comparison.of("chain", our_reasons(groups, columns), chained)


def _reference_reasons(texts: Sequence[str]) -> tuple[dict[str, Reasons], Reasons, list[str]]:
    """Return datatrove's reasons: of each block on the raw text, of the chain, and the texts that C4 leaves.

    All blocks judge one document in FineWeb's order, so the last sees what C4 left; each text goes through all of
    them before the next, since datatrove remembers the words of a few texts.
    """
    judges = reference_judges()
    alone: dict[str, Reasons] = {name: [] for name in judges}
    chained: Reasons = []
    edited = []
    for text in texts:
        doc = document(text)
        reasons = {name: judge(doc) for name, judge in judges.items() if name not in ("c4", "fineweb")}
        on_raw = judges["fineweb"](doc)
        reasons["c4"] = judges["c4"](doc)
        chained.append(next(filter(None, [*reasons.values(), judges["fineweb"](doc)]), None))
        edited.append(doc.text)
        for name, reason in {**reasons, "fineweb": on_raw}.items():
            alone[name].append(reason)
    return alone, chained, edited


def compare_minhash(texts: Sequence[str], words: Words = "english") -> Iterator[Comparison]:
    """Compare signatures, then clusters: a text counts as equal where its cluster has the same members."""
    signatures = measured("minhash", texts, words=words)["minhash.signature"]
    with TemporaryDirectory() as folder:
        step = minhash_step(Path(folder))
        yield Comparison.of_values("minhash", signatures, [reference_signature(step, text) for text in texts])
        clusters, kept = reference_dedup(texts, Path(folder))
    ours = _clusters(signatures)
    members = [{i: cluster for cluster in side for i in cluster} for side in (ours, clusters)]
    of_text = [[side.get(i) for i in range(len(texts))] for side in members]
    yield Comparison.of_values("clusters", *of_text)
    removed = sum(len(cluster) - 1 for cluster in ours)
    yield Comparison.of_values("survivors", [len(texts) - removed], [len(kept)])


def _clusters(signatures: Sequence[bytes | None]) -> set[frozenset[int]]:
    column = pa.array(signatures, pa.binary())
    numbers = np.flatnonzero(column.is_valid())
    hashes = fixed_hashes(column.drop_null(), 64, Path("signatures"))
    entries = make_entries(hashes, numbers.astype(np.uint32), None, (14, 8))
    buckets = Buckets.find([(entries, np.ones(len(signatures), dtype=bool))])
    found = buckets.candidates()
    resolved = resolve_components(buckets, found, np.arange(len(found)), hashes[np.searchsorted(numbers, found)])
    members: dict[int, set[int]] = {}
    for place, survivor in enumerate(resolved.survivors.tolist()):
        members.setdefault(place if survivor < 0 else survivor, set()).add(int(found[place]))
    return {frozenset(cluster) for cluster in members.values() if len(cluster) > 1}


def with_near_duplicates(texts: Sequence[str]) -> list[str]:
    """Return the texts and, of every third, a copy that lost its last 2 to 20 % of words."""
    copies = []
    for number, text in enumerate(texts[::3]):
        words = text.split(" ")
        copies.append(" ".join(words[: len(words) - len(words) * (2 + number % 19) // 100]))
    return [*texts, *copies]


def compare_redactions(texts: Sequence[str]) -> Comparison:
    """Compare texts with every address replaced by one mark for its kind."""
    marks = {"email": "\ue000", "ip": "\ue001"}
    redactions = measured("pii", texts)["pii.redactions"]
    ours = [
        apply_spans(text, [span._replace(replacement=marks[span.label]) for span in spans])
        for text, spans in zip(texts, redactions, strict=True)
    ]
    return Comparison.of_values("pii", ours, [reference_redaction(text, **marks) for text in texts])


def compare_all(texts: Sequence[str], words: Words = "english") -> Iterator[Comparison]:
    """Yield every comparison."""
    yield from compare_filters(texts, words)
    yield from compare_minhash(with_near_duplicates(texts), words)
    yield compare_redactions(texts)


def main(arguments: Sequence[str]) -> None:
    """Print the comparisons over the texts of all files as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.filter_parity")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--words", choices=get_args(Words), default="english", help="who cuts the words of our signals")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    texts = [text for path in options.files for text in load_texts(path)]
    comparisons = list(compare_all(texts, options.words))
    if options.json:
        print(json.dumps([comparison.as_row() for comparison in comparisons]))
        return
    heads = ("documents", "both keep", "both drop", "ours only", "theirs only", "same reason", "agree")
    print(" " * 18 + "".join(f"{head:>12}" for head in heads))
    for c in comparisons:
        counts = (c.documents, c.both_keep, c.both_drop, c.ours_only, c.theirs_only, c.same_reason)
        print(f"{c.name:18}" + "".join(f"{count:12}" for count in counts) + f"{c.agreement:12.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
