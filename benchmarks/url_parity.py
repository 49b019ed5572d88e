"""Do our URL signal and rules decide as datatrove's URLFilter? `python -m benchmarks.url_parity WARC... [--json]`.

URLs are those of the records of web archives, the links in their pages as they are written there, and ones made from
the lists themselves: every listed URL, a sample of listed domains (bare, under other hosts, in capitals) and all words.
Decisions are compared with datatrove's own integrated lists, reasons included. tldextract gets the Public Suffix List
that ours reads, because by itself it downloads one and decides otherwise another day; what its built-in snapshot would
change stands in a row of its own. Then both are timed: loading in fresh processes (after imports, lists unpacked and
mapped before) with the memory that it takes, and decisions, round by round; `spread` is highest minus lowest ratio.
"""

import json
import os
import random
import re
import subprocess
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from time import perf_counter
from typing import Any

from benchmarks.filter_parity import Comparison, Reasons
from headrace.filters import public_suffixes
from headrace.filters.contract import TextBatch
from headrace.filters.judging import failures, first_failures
from headrace.filters.rules import parse_rule
from headrace.filters.signals.url import Url
from headrace.filters.url_lists import find_list, load_words, read_entries
from headrace.filters.url_rules import URL_RULES
from headrace.pipeline.errors import InputError
from headrace.pipeline.readers.contract import Record
from headrace.pipeline.readers.warc import WarcReader

Decide = Callable[[Sequence[str]], Reasons]

BATCH = 512
LOADS = 5
ROUNDS = 7
SAMPLED_DOMAINS = 20_000
_LINK = re.compile(rb"""(?:href|src|action)\s*=\s*["']([^"'\0]{1,2000})["']""", re.IGNORECASE)


def archive_urls(paths: Sequence[Path]) -> list[str]:
    """Return the distinct target URLs of web archives and the links in their pages, in order."""
    return list(dict.fromkeys(url for path in sorted(paths) for url in _urls_of(path) if url))


def _urls_of(path: Path) -> Iterator[str]:
    with path.open("rb") as file:
        try:
            for item in WarcReader().read(file, str(path)):
                if isinstance(item, Record):
                    yield item.url
                    yield from (link.decode("utf-8", "replace") for link in _LINK.findall(item.payload))
        except InputError as error:
            print(error, file=sys.stderr)


def listed_urls(seed: int) -> list[str]:
    """Return URLs made from every kind of list."""
    drawn = random.Random(seed)
    domains = sorted(
        drawn.sample([entry.decode() for entry in read_entries(find_list("domain:datatrove"))], SAMPLED_DOMAINS)
    )
    urls = [entry.decode() for entry in read_entries(find_list("url:datatrove"))]
    made = [f"http://{host}/" for name in domains for host in (name, f"a.b.{name}", f"www.{name}:8080", name.upper())]
    made += [shape for url in urls for shape in (url, f"http://{url}", f"https://www.{url}?a=b")]
    for kind in ("word", "soft_word", "subword"):
        words = sorted(load_words(find_list(f"{kind}:datatrove")))
        for word, other in zip(words, words[1:] + words[:1], strict=True):
            shapes = (word, f"{word}s", word.upper(), f"a-{word}/{word}", f"{word}-{other}", "-".join(word))
            made += [f"https://example.org/{shape}.html" for shape in shapes]
    return made


def our_reasons(signal: Url, urls: Sequence[str]) -> Reasons:
    """Return the first reason for which the rules drop each URL, or None."""
    rules = [parse_rule(rule) for rule in URL_RULES["url"]]
    reasons: Reasons = []
    for start in range(0, len(urls), BATCH):
        part = urls[start : start + BATCH]
        values = signal.measure(TextBatch([""] * len(part), part))
        columns = {f"url.{name}": column for name, column in values.items()}
        reasons += [None if index < 0 else rules[index].reason for index in first_failures(failures(rules, columns))]
    return reasons


def reference_filter(same_suffixes: bool = True, **options: Any) -> Any:
    """Return datatrove's block, which loads its lists at the first document; tldextract goes to no network."""
    from datatrove.pipeline.filters import URLFilter
    from loguru import logger

    logger.disable("datatrove")
    block = URLFilter(**options)
    block.tldextractor = reference_extractor(same_suffixes)
    return block


def reference_extractor(same_suffixes: bool = True) -> Any:
    """Return tldextract with the Public Suffix List that ours reads, or with the snapshot that it carries."""
    from tldextract.suffix_list import extract_tlds_from_suffix_list
    from tldextract.tldextract import TLDExtract, _PublicSuffixListTLDExtractor

    extractor = TLDExtract(cache_dir=None, suffix_list_urls=())
    if same_suffixes:  # past its loader, which fetches a file too by `requests`, and leaves it open
        lists = extract_tlds_from_suffix_list(public_suffixes.list_path().read_text(encoding="utf-8"))
        extractor._extractor = _PublicSuffixListTLDExtractor(*lists, extra_tlds=[])
    return extractor


def reference_documents(urls: Sequence[str]) -> list[Any]:
    """Return datatrove's documents with these URLs."""
    from datatrove.data import Document

    return [Document(text="", id="0", metadata={"url": url}) for url in urls]


def reference_reasons(block: Any, documents: Sequence[Any]) -> Reasons:
    """Return the reference's reasons."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # it asks tldextract for a property by its old name
        results = [block.filter(document) for document in documents]
    return [None if result is True else str(result[1]) for result in results]


def compare(real: Sequence[str], made: Sequence[str]) -> Iterator[Comparison]:
    """Compare decisions on real URLs and on those made from the lists, then with tldextract's own suffixes."""
    block = reference_filter()
    for name, urls in (("real URLs", real), ("URLs from the lists", made)):
        yield Comparison.of(name, our_reasons(Url(), urls), reference_reasons(block, reference_documents(urls)))
    block.tldextractor = reference_extractor(same_suffixes=False)
    theirs = reference_reasons(block, reference_documents([*real, *made]))
    yield Comparison.of("its own suffixes", our_reasons(Url(), [*real, *made]), theirs)


def time_loading() -> list[dict[str, Any]]:
    """Return rows of seconds and memory from import to the first decision, each in a process of its own."""
    sides: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
    for _ in range(LOADS + 1):
        for side, runs in sides.items():
            command = [sys.executable, "-m", "benchmarks.url_parity", "--load", side]
            runs.append(json.loads(subprocess.run(command, check=True, capture_output=True).stdout))
    names = {"load_seconds": "s", "rss_megabytes": "MB RSS", "private_megabytes": "MB private"}
    measured = {name: [[run[name] for run in runs[1:]] for runs in sides.values()] for name in names}
    return [speed_row(f"URL lists: {name}", *measured[name], unit, less_is_better=True) for name, unit in names.items()]


def load(side: str) -> dict[str, float]:
    """Make one decision; return its seconds and the memory that it took, imports left out."""
    import psutil

    make = _import(side)
    process = psutil.Process()
    before, started = process.memory_full_info(), perf_counter()
    decide = make()
    decide(["http://example.org/"])
    seconds, after = perf_counter() - started, process.memory_full_info()
    megabytes = {"rss_megabytes": (after.rss - before.rss) / 1e6, "private_megabytes": (after.uss - before.uss) / 1e6}
    return {"load_seconds": seconds, **megabytes}


def _import(side: str) -> Callable[[], Decide]:
    """Import all that a side needs; return what makes a function that decides."""
    if side == "ours":
        import numpy  # noqa: F401 - imports are not what is timed
        import xxhash  # noqa: F401

        return lambda: lambda urls: our_reasons(Url(), urls)
    import ahocorasick  # noqa: F401
    import tldextract  # noqa: F401
    from datatrove.pipeline.filters import URLFilter  # noqa: F401

    def make() -> Decide:
        block = reference_filter()
        return lambda urls: reference_reasons(block, reference_documents(urls))

    return make


def time_decisions(urls: Sequence[str]) -> dict[str, Any]:
    """Return a row of URLs decided a second, from columns and rules ours, round by round."""
    block, documents = reference_filter(), reference_documents(urls)
    sides: tuple[Callable[[], Reasons], ...] = (
        lambda: our_reasons(Url(), urls),
        lambda: reference_reasons(block, documents),
    )
    speeds: list[list[float]] = [[], []]
    for _ in range(ROUNDS + 1):
        for side, decide in zip(speeds, sides, strict=True):
            started = perf_counter()
            decide()
            side.append(len(urls) / (perf_counter() - started))
    return speed_row("URL decisions", speeds[0][1:], speeds[1][1:], "URLs/s")


def speed_row(
    name: str, ours: Sequence[float], peer: Sequence[float], unit: str, less_is_better: bool = False
) -> dict[str, Any]:
    """Return a row of medians; the ratio is above 1 where ours is better."""
    ratios = [b / a if less_is_better else a / b for a, b in zip(ours, peer, strict=True)]
    figures = {"ours": median(ours), "peer": median(peer), "unit": unit}
    return {"name": name, **figures, "ratio": median(ratios), "spread": max(ratios) - min(ratios), "required": None}


def main(arguments: Sequence[str]) -> None:
    """Print agreement, speed and memory as tables, or as JSON."""
    if arguments[:1] == ["--load"]:
        print(json.dumps(load(arguments[1])))
        return
    paths = [Path(argument) for argument in arguments if not argument.startswith("-")]
    if not paths:
        raise SystemExit("usage: python -m benchmarks.url_parity WARC... [--json]")
    with TemporaryDirectory() as folder:
        os.environ["HF_ASSETS_CACHE"] = folder  # where datatrove unpacks its lists
        real = archive_urls(paths)
        comparisons = list(compare(real, listed_urls(seed=0)))
        rows = [*time_loading(), time_decisions(real)]
    if "--json" in arguments:
        print(json.dumps([*(comparison.as_row() for comparison in comparisons), *rows]))
        return
    print_comparisons(comparisons)
    for row in rows:
        figures = f"{row['ours']:12,.3f}{row['peer']:14,.3f} {row['unit']:12}"
        print(f"{row['name']:32}{figures}{row['ratio']:9.2f} (spread {row['spread']:.2f})")


def print_comparisons(comparisons: Sequence[Comparison]) -> None:
    """Print how often both decided alike."""
    heads = ("URLs", "both keep", "both drop", "ours only", "theirs only", "same reason", "agree")
    print(" " * 20 + "".join(f"{head:>12}" for head in heads))
    for c in comparisons:
        counts = (c.documents, c.both_keep, c.both_drop, c.ours_only, c.theirs_only, c.same_reason)
        print(f"{c.name:20}" + "".join(f"{count:12,}" for count in counts) + f"{c.agreement:12.3%}")


if __name__ == "__main__":
    main(sys.argv[1:])
