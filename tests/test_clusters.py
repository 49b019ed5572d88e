"""The command `clusters`: the largest ones, with their texts beside each other."""

from pathlib import Path

import pytest

from headrace.pipeline.cluster_texts import AROUND, compare_words
from tests.commands import headrace
from tests.test_duplicates import minhash, run, unique, words, write


def test_words_that_one_text_has_alone_are_marked_and_far_ones_left_out() -> None:
    shared = [f"w{number}" for number in range(40)]
    survivor, member = [*shared[:20], "old", *shared[20:]], [*shared[:20], "new", "er", *shared[20:], "end"]
    pieces = [(piece.kind, piece.text) for piece in compare_words(survivor, member)]
    assert pieces == [
        ("left out", f"{20 - AROUND} words"),
        ("same", " ".join(shared[20 - AROUND : 20])),
        ("survivor", "old"),
        ("member", "new er"),
        ("same", " ".join(shared[20 : 20 + AROUND])),
        ("left out", f"{20 - 2 * AROUND} words"),
        ("same", " ".join(shared[-AROUND:])),
        ("member", "end"),
    ]
    assert [piece.kind for piece in compare_words(["a", "b"], ["a", "b"])] == ["same"]
    assert list(compare_words([], [])) == []


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> str:
    import numpy as np

    folder = tmp_path_factory.mktemp("clusters")
    random, texts = np.random.default_rng(3), {}
    for family, copies in enumerate((1, 5, 3, 0)):
        base = words(random, 150)
        for copy in range(copies + 1):
            texts[f"{family}.{copy}"] = " ".join([*base[: 75 + copy], unique(100 * family + copy), *base[76 + copy :]])
    return run(write(folder / "in", texts), minhash(survivor="longest")).path("corpus")


def test_the_largest_are_shown_first_with_what_differs(corpus: str) -> None:
    found = headrace("clusters", corpus, "--members", 2, "--json").json
    assert [cluster["size"] for cluster in found["largest"]] == [6, 4, 2]
    assert (found["num_clusters"], found["num_removed"], found["num_held"]) == (3, 9, 0)
    assert found["sizes"] == [[2, 1], [4, 1], [6, 1]]
    first = found["largest"][0]
    assert len(first["members"]) == 2
    for member in first["members"]:
        kinds = [piece["kind"] for piece in member["pieces"]]
        assert {"survivor", "member", "left out"} <= set(kinds)
        assert member["reason"] == "near_duplicate"
    only = headrace("clusters", corpus, "--clusters", 1, "--json").json["largest"]
    assert [cluster["cluster"] for cluster in only] == [first["cluster"]]


def test_people_see_both_texts_and_get_a_page(corpus: str, tmp_path: Path) -> None:
    ran = headrace("clusters", corpus, "--html", tmp_path / "clusters.html")
    assert ran.status == 0, ran.err
    assert "of 6" in ran.out
    assert "estimated_jaccard" in ran.out
    page = (tmp_path / "clusters.html").read_text()
    assert page.startswith("<!DOCTYPE html>")
    assert "estimated_jaccard" in page


def test_artifacts_without_duplicates_say_so(corpus: str, tmp_path: Path) -> None:
    ran = headrace("clusters", corpus, "--step", "minhash 9")
    assert (
        ran.status,
        "no step that looked for duplicates is called 'minhash 9'; there are 'minhash 2'" in ran.err,
    ) == (1, True)
    plain = run(write(tmp_path / "in", {"a": "some text"}), "").path("corpus")
    ran = headrace("clusters", plain)
    assert (ran.status, "no step on the way to it looked for duplicates" in ran.err) == (1, True)
    two = run(write(tmp_path / "two" / "in", {"a": "some text"}), minhash() + '[[steps]]\nkind = "exact"\n')
    ran = headrace("clusters", two.path("corpus"))
    assert (ran.status, "several steps looked for duplicates, 'minhash 2', 'exact 3'; say which" in ran.err) == (
        1,
        True,
    )
