"""What of planted personal data is found? `python -m benchmarks.pii_quality WARC.gz TEXT.gz... [--json] [--show]`.

Real texts (pages of a WARC, books as text) are cut into pieces of 5,000 characters. Into each, in turn, goes one
made-up identifier at the end of a word, and into another its near miss: one digit changed, an e-mail address without a
top-level domain, an IP address that is not public. A seed decides all. What is found in the same pieces before
anything is planted is counted too (`--show` prints it): it is real, or false. Speed is that of one core.
"""

import gzip
import json
import random
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import cycle, islice
from pathlib import Path

from benchmarks.filter_parity import extract_texts
from benchmarks.pii_samples import make_samples
from headrace.filters.contract import TextBatch
from headrace.filters.signals.pii import Pii
from headrace.filters.spans import Span

PIECE = 5000
SAMPLES = 1000
BEHIND = (".", ",", " and", "; then", ")", "\n")
ALL = Pii(ipv6=True, phones=True, cards=True, ibans=True, national_ids=True)
WITH_REGIONS = Pii(ipv6=True, phones=True, cards=True, ibans=True, national_ids=True, phone_regions=("US", "GB", "DE"))


@dataclass(frozen=True)
class Outcome:
    """What became of the samples of one kind; `inexact` spans overlap what was planted, `in_text` was there before."""

    name: str
    planted: int
    found: int
    inexact: int
    missed: int
    near_misses: int
    taken_as_kind: int
    taken_as_other: int
    in_text: int


def read_pieces(paths: Sequence[Path]) -> list[str]:
    """Return the texts of WARC files and of (gzipped) text files in pieces."""
    texts: list[str] = []
    for path in paths:
        if ".warc" in path.suffixes:
            texts += extract_texts(path)
        else:
            data = path.read_bytes()
            texts.append((gzip.decompress(data) if path.suffix == ".gz" else data).decode())
    return [text[start : start + PIECE] for text in texts for start in range(0, len(text), PIECE)]


def find(signal: Pii, texts: Sequence[str]) -> list[list[Span]]:
    """Return the spans of each text."""
    return list(signal.measure(TextBatch(texts, [""] * len(texts)))["redactions"])


def plant(piece: str, lead: str, text: str, drawn: random.Random) -> tuple[str, int, int]:
    """Return the piece with the text at the end of a word, and the bytes where it is."""
    place = piece.find(" ", drawn.randrange(max(1, len(piece) - 200)))
    head = f"{piece[: max(place, 0)]} {lead} "
    start = len(head.encode())
    return head + text + drawn.choice(BEHIND) + piece[max(place, 0) :], start, start + len(text.encode())


def judge(name: str, samples: Sequence[tuple[str, str]], pieces: Sequence[str], signal: Pii) -> Counter[str]:
    """Plant (lead, text) pairs and count what is found of them."""
    drawn = random.Random(name)
    planted = [plant(piece, *sample, drawn) for sample, piece in zip(samples, cycle(pieces), strict=False)]
    label = name.partition(",")[0]
    counts: Counter[str] = Counter()
    for spans, (_, start, end) in zip(find(signal, [text for text, _, _ in planted]), planted, strict=True):
        over = [span for span in spans if span.start < end and span.end > start]
        exact = any((span.label, span.start, span.end) == (label, start, end) for span in over)
        alike = any(span.label == label for span in over)
        counts["exact" if exact else "alike" if alike else "other" if over else "none"] += 1
    return counts


def outcomes(pieces: Sequence[str]) -> Iterator[Outcome]:
    """Yield the outcome of each kind; numbers inside a country are looked for in three countries, only there."""
    before = {signal: Counter(span.label for spans in find(signal, pieces) for span in spans) for signal in SIGNALS}
    for name, samples in make_samples(SAMPLES).items():
        signal = WITH_REGIONS if name == "phone, national" else ALL
        valid = judge(name, [(sample.lead, sample.text) for sample in samples], pieces, signal)
        near = judge(name, [(sample.lead, sample.near_miss) for sample in samples], pieces, signal)
        yield Outcome(
            name,
            planted=len(samples),
            found=valid["exact"],
            inexact=valid["alike"],
            missed=valid["other"] + valid["none"],
            near_misses=len(samples),
            taken_as_kind=near["exact"] + near["alike"],
            taken_as_other=near["other"],
            in_text=before[signal][name.partition(",")[0]],
        )


SIGNALS = {Pii(): "e-mail and IPv4", ALL: "every kind", WITH_REGIONS: "every kind, phones of US, GB, DE"}


def speeds(pieces: Sequence[str], rounds: int = 3) -> Iterator[tuple[str, float, float]]:
    """Yield for each signal the pieces a second, best of some rounds, and the spread of them."""
    for signal, name in SIGNALS.items():
        rates = []
        for _ in range(rounds):
            began = time.perf_counter()
            find(signal, pieces)
            rates.append(len(pieces) / (time.perf_counter() - began))
        yield name, max(rates), (max(rates) - min(rates)) / max(rates)


def show(pieces: Sequence[str]) -> None:
    """Print what is found in the pieces as they are."""
    for piece, spans in zip(pieces, find(WITH_REGIONS, pieces), strict=True):
        data = piece.encode()
        for span in spans:
            context = (data[max(0, span.start - 40) : span.start], data[span.end : span.end + 20])
            left, right = (part.decode(errors="replace").replace("\n", " ") for part in context)
            print(f"{span.label:12}{left} [[{data[span.start : span.end].decode()}]] {right}")


def main(arguments: Sequence[str]) -> None:
    """Print the outcomes and speeds over some files as tables, or as JSON."""
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if not paths:
        raise SystemExit("usage: python -m benchmarks.pii_quality WARC.gz TEXT.gz... [--json] [--show]")
    pieces = read_pieces(paths)
    if "--show" in arguments:
        return show(pieces)
    rows, rates = [asdict(outcome) for outcome in outcomes(pieces)], list(speeds(pieces))
    if "--json" in arguments:
        measured = [{"name": name, "ours": rate, "unit": "pieces/s", "spread": spread} for name, rate, spread in rates]
        print(json.dumps([*rows, *measured]))
        return None
    print(f"{len(pieces)} pieces, {sum(len(piece.encode()) for piece in pieces):,} bytes")
    print(f"{'kind':24}" + "".join(f"{key.replace('_', ' '):>16}" for key in islice(rows[0], 1, None)))
    for row in rows:
        print(f"{row['name']:24}" + "".join(f"{value:16}" for value in islice(row.values(), 1, None)))
    for name, rate, spread in rates:
        print(f"{name:34}{rate:10,.0f} pieces/s (spread {spread:.0%})")
    return None


if __name__ == "__main__":
    main(sys.argv[1:])
