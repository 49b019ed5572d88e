"""On real pages, signals and rules decide as datatrove's blocks do: each alone, as a chain, and in every reason."""

from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

from headrace.filters import punctuation
from headrace.filters.normalize import simplify_text

NUM_PAGES = 120


@pytest.fixture(scope="module")
def parity() -> Any:
    for library in ("datatrove", "spacy", "fastwarc", "trafilatura"):
        pytest.importorskip(library)
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(Path(__file__).parents[1])
        yield import_module("benchmarks.filter_parity")


@pytest.fixture(scope="module")
def texts(parity: Any, real_data: Path) -> list[str]:
    found: list[str] = parity.extract_texts(real_data / "crawl" / "pages-web.warc.gz", NUM_PAGES)
    assert len(found) == NUM_PAGES
    return found


def test_filters_decide_alike_and_for_the_same_reason(parity: Any, texts: list[str]) -> None:
    comparisons = {comparison.name: comparison for comparison in parity.compare_filters(texts)}
    assert list(comparisons) == [
        "language",
        "gopher_repetition",
        "gopher_quality",
        "c4",
        "fineweb",
        "c4 text",
        "chain",
    ]
    for comparison in comparisons.values():
        assert comparison.same_reason == comparison.documents, comparison
        assert comparison.agreement == 1.0
    assert comparisons["chain"].both_keep > 30
    assert comparisons["chain"].both_drop > 10


def test_signatures_and_clusters_are_the_same(parity: Any, texts: list[str]) -> None:
    near = parity.with_near_duplicates(texts[:60])
    assert [comparison.agreement for comparison in parity.compare_minhash(near)] == [1.0] * 3


def test_redactions_are_the_same(parity: Any, texts: list[str]) -> None:
    assert parity.compare_redactions([*texts, "a.b@c.org 8.8.8.8 127.0.0.1"]).agreement == 1.0


def test_texts_are_simplified_alike(parity: Any, texts: list[str]) -> None:
    from datatrove.utils import text as reference

    assert punctuation.PUNCTUATION == reference.PUNCTUATION
    assert punctuation.TERMINAL_PUNCTUATION == reference.TERMINAL_PUNCTUATION
    for text in [*texts, "Ünïcödé \u0663\u0664\u066b\u0665 1,234.5 \uff11\uff12  ", "", "¿Qué?"]:
        assert simplify_text(text) == reference.simplify_text(text)
