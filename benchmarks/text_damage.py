"""What damage do real pages have, and what does it cost to see and to mend it, beside ftfy?

`python -m benchmarks.text_damage WARC.gz ... [--json]`. The pages of each WARC are extracted once (Resiliparse). For
each column of `text_damage` the table says how many pages have any, and what the repair changed. Then our count of
mojibake and `ftfy.badness.badness`, the whole signal, and our repair and `ftfy.fix_text` with the same fixers go over
the same texts in turns, on one core. Ratios are of speeds in the same round; agreement is on count and text.
"""

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import median
from typing import Any

from headrace.filters.contract import TextBatch
from headrace.filters.mojibake import count_mojibake
from headrace.filters.signals.text_damage import TextDamage
from headrace.pipeline.extract import Extracted, make_extractor
from headrace.pipeline.readers.contract import Record, make_reader
from headrace.pipeline.repairs.ftfy import FtfyRepairer

ROUNDS = 5
Way = Callable[[Sequence[str]], list[Any]]


def extract_texts(path: Path) -> list[str]:
    """Return the text of each page of a WARC that has one."""
    extractor = make_extractor("resiliparse", {})
    with path.open("rb") as file:
        records = (item for item in make_reader("warc", {}).read(file, path.name) if isinstance(item, Record))
        outcomes = [extractor.extract(record) for record in records]
    return [outcome.text for outcome in outcomes if isinstance(outcome, Extracted)]


def damage_of(texts: Sequence[str]) -> dict[str, int]:
    """Return how many texts there are, have damage of each kind, are not NFC, and are changed by the repair."""
    values = TextDamage().measure(TextBatch(texts, [""] * len(texts)))
    found = {name: sum(map(bool, column)) for name, column in values.items() if name.startswith("num_")}
    del found["num_chars"]
    repaired = [FtfyRepairer().repair(text).counts for text in texts]
    return {
        "pages": len(texts),
        **found,
        "not_nfc": values["is_nfc"].count(False),
        "repaired": sum("segments" in counts for counts in repaired),
        "unfinished": sum("unfinished" in counts for counts in repaired),
    }


def ways() -> dict[str, tuple[Way, Way | None]]:
    """Return what is timed by name: ours, and the peer's where there is one."""
    from ftfy import TextFixerConfig, fix_text
    from ftfy.badness import badness

    repairer = FtfyRepairer()
    switches = {name: value for name, value in asdict(repairer).items() if name != "max_passes"}
    config = TextFixerConfig(**switches, fix_surrogates=False, normalization=None)
    return {
        "mojibake": (lambda texts: list(map(count_mojibake, texts)), lambda texts: list(map(badness, texts))),
        "text_damage": (lambda texts: list(TextDamage().measure(TextBatch(texts, [""] * len(texts)))["is_nfc"]), None),
        "repair": (
            lambda texts: [repairer.repair(text).text for text in texts],
            lambda texts: [fix_text(text, config=config) for text in texts],
        ),
    }


def compare(texts: Sequence[str]) -> Iterator[dict[str, Any]]:
    """Yield the figures as benchmarks print them; `spread` is half the range of the ratios over their median."""
    num_bytes = sum(len(text.encode()) for text in texts)
    for name, (ours, theirs) in ways().items():
        same = None
        speeds = [[_speed(way, texts, num_bytes) for way in (ours, theirs or ours)] for _ in range(ROUNDS)]
        if theirs is not None:
            same = sum(a == b for a, b in zip(ours(texts), theirs(texts), strict=True)) / len(texts)
        ratios = sorted(a / b for a, b in speeds)
        yield {
            "name": name,
            "ours": round(median(a for a, _ in speeds), 1),
            "peer": round(median(b for _, b in speeds), 1) if theirs else None,
            "unit": "MB/s",
            "ratio": round(median(ratios), 2) if theirs else None,
            "spread": round((ratios[-1] - ratios[0]) / 2 / median(ratios), 3) if theirs else None,
            "required": None,
            "agreement": same,
        }


def _speed(way: Way, texts: Sequence[str], num_bytes: int) -> float:
    started = time.perf_counter()
    way(texts)
    return num_bytes / (time.perf_counter() - started) / 1e6


def main(arguments: Sequence[str]) -> None:
    """Print the damage of the pages of some WARCs and the speeds over all of them as tables, or as JSON."""
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if not paths:
        raise SystemExit("usage: python -m benchmarks.text_damage WARC.gz ... [--json]")
    texts = {path.name: extract_texts(path) for path in paths}
    rows = list(compare([text for some in texts.values() for text in some]))
    damage = {name: damage_of(some) for name, some in texts.items()}
    if "--json" in arguments:
        print(json.dumps([*rows, *({"name": name, **found} for name, found in damage.items())]))
        return
    for kind in next(iter(damage.values())):
        print(f"{kind:18}" + "".join(f"{found[kind]:>12}" for found in damage.values()))
    for row in rows:
        print(f"{row['name']:12}{row['ours']:8} MB/s", end="")
        if row["peer"] is None:
            print()
        else:
            print(f", ftfy {row['peer']}: {row['ratio']}x +-{row['spread']:.1%}, same {row['agreement']:.2%}")


if __name__ == "__main__":
    main(sys.argv[1:])
