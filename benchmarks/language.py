"""How fast is a text's language told, beside datatrove? `python -m benchmarks.language WARC.gz ... [--json]`.

The pages of some WARCs are extracted once. Then datatrove 0.10.1's `LanguageFilter` as FineWeb uses it, our `language`
signal over whole texts and over their first 1,000 characters, and `language_fast` go over the same texts in turns, on
one core. Ratios are of speeds in the same round; agreement is on the label, against datatrove's.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.datatrove_reference import document, language_filter
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.signals.language import Language
from headrace.filters.signals.language_fast import LanguageFast

ROUNDS = 5
REQUIRED = 5.0
BATCH_ROWS = 512
OURS: dict[str, Signal] = {
    "language": Language(),
    "language, first 1,000 characters": Language(num_chars=1000),
    "language_fast": LanguageFast(),
}


@dataclass(frozen=True)
class Measured:
    """Labels, and documents a second in each round."""

    labels: list[str | None]
    speeds: list[float]


def extract_texts(paths: Sequence[Path]) -> Iterator[str]:
    """Yield the main text of each page of some WARCs that has one."""
    from fastwarc.warc import ArchiveIterator, WarcRecordType
    from resiliparse.extract.html2text import extract_plain_text
    from resiliparse.parse.encoding import bytes_to_str, detect_encoding

    for path in paths:
        with path.open("rb") as file:
            for record in ArchiveIterator(file, record_types=WarcRecordType.response):
                body = record.reader.read()
                text = extract_plain_text(bytes_to_str(body, detect_encoding(body)), main_content=True)
                if text:
                    yield text


def ours(signal: Signal, texts: Sequence[str]) -> list[str | None]:
    """Return the labels that a signal gives, in batches as a build makes them."""
    labels: list[str | None] = []
    for start in range(0, len(texts), BATCH_ROWS):
        chunk = texts[start : start + BATCH_ROWS]
        labels += signal.measure(TextBatch(chunk, [""] * len(chunk)))["label"]
    return labels


def theirs(block: Any, texts: Sequence[str]) -> list[str | None]:
    """Return the labels that datatrove's filter leaves in the metadata of its documents."""
    documents = [document(text) for text in texts]
    for doc in documents:
        block.filter(doc)
    return [doc.metadata["language"] for doc in documents]


def measure_all(texts: Sequence[str]) -> dict[str, Measured]:
    """Run every way over the texts, in turns; the first round, which loads models, is not counted."""
    block = language_filter()
    ways: dict[str, Callable[[], list[str | None]]] = {"datatrove": lambda: theirs(block, texts)}
    ways |= {name: (lambda signal=signal: ours(signal, texts)) for name, signal in OURS.items()}  # type: ignore[misc]
    measured = {name: Measured(way(), []) for name, way in ways.items()}
    for _ in range(ROUNDS):
        for name, way in ways.items():
            started = time.perf_counter()
            way()
            measured[name].speeds.append(len(texts) / (time.perf_counter() - started))
    return measured


def as_rows(texts: Sequence[str], measured: dict[str, Measured]) -> Iterator[dict[str, Any]]:
    """Yield the figures as benchmarks print them; `spread` is half the range of the ratios over their median."""
    peer = measured.pop("datatrove")
    num_bytes = sum(len(text.encode()) for text in texts)
    for name, found in measured.items():
        ratios = sorted(a / b for a, b in zip(found.speeds, peer.speeds, strict=True))
        same = sum(a == b for a, b in zip(found.labels, peer.labels, strict=True))
        yield {
            "name": name,
            "ours": round(median(found.speeds), 1),
            "peer": round(median(peer.speeds), 1),
            "unit": "documents/s",
            "ratio": round(median(ratios), 2),
            "spread": round((ratios[-1] - ratios[0]) / 2 / median(ratios), 3),
            "required": REQUIRED,
            "agreement": same / len(texts),
            "documents": len(texts),
            "megabytes_per_second": round(median(found.speeds) * num_bytes / len(texts) / 1e6, 1),
        }


def main(arguments: Sequence[str]) -> None:
    """Print speeds, ratios and agreement over the pages of some WARCs as a table, or as JSON."""
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if not paths:
        raise SystemExit("usage: python -m benchmarks.language WARC.gz ... [--json]")
    texts = list(extract_texts(paths))
    rows = list(as_rows(texts, measure_all(texts)))
    if "--json" in arguments:
        print(json.dumps(rows))
        return
    print(f"{len(texts)} texts; datatrove's LanguageFilter: {rows[0]['peer']} documents/s")
    for row in rows:
        print(
            f"{row['name']:34}{row['ours']:10} documents/s{row['megabytes_per_second']:8} MB/s"
            f"{row['ratio']:8}x +-{row['spread']:.1%}  same label {row['agreement']:.2%}"
        )


if __name__ == "__main__":
    main(sys.argv[1:])
