"""On real pages the kernels of `redpajama` and `refinedweb` find what the plain rules find."""

from collections.abc import Iterator
from importlib import import_module
from itertools import islice
from pathlib import Path

import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.signals.redpajama import RedPajama
from headrace.filters.signals.refinedweb import RefinedWeb
from headrace.filters.spans import apply_spans
from tests.test_redpajama import plainly
from tests.test_refinedweb import corrected

NUM_PAGES = 25  # of each crawl; all 1,161 were compared once


@pytest.fixture(scope="module")
def pages(real_data: Path) -> Iterator[list[str]]:
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        extract_texts = import_module("benchmarks.filter_parity").extract_texts
        crawls = [real_data / "crawl" / f"pages-{name}.warc.gz" for name in ("web", "news", "wikipedia")]
        yield [text for crawl in crawls for text in islice(extract_texts(crawl), NUM_PAGES)]


def test_annotations_of_real_pages(pages: list[str]) -> None:
    measured = RedPajama().measure(TextBatch(pages, [""] * len(pages)))
    for number, text in enumerate(pages):
        assert {name: values[number] for name, values in measured.items()} == plainly(text)


def test_corrections_of_real_pages(pages: list[str]) -> None:
    measured = RefinedWeb().measure(TextBatch(pages, [""] * len(pages)))
    for number, text in enumerate(pages):
        found = apply_spans(text, measured["removed"][number]), measured["num_removed_words"][number]
        assert found == corrected(text)
    assert sum(measured["num_removed_words"]) > 0
