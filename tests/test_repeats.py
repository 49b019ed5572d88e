"""Repeated text: windows of words, lines and paragraphs; against plain Python, in any number of ranges and parts."""

import tracemalloc
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.normalize import simplify_text
from headrace.pipeline.build import Built
from headrace.pipeline.dedup.occurrences import STORED, between, by_hash, find_repeats, open_array
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.stages.repeats import FindRepeats, HashUnits
from tests import test_duplicates
from tests.test_duplicates import documents, run, words, write


def step(kind: str, **keys: object) -> str:
    import json

    return f'[[steps]]\nkind = "{kind}"\n' + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items())


def table(built: Built, signal: str) -> dict[str, dict[str, Any]]:
    manifest, found = built.manifests[f"signals:{signal}"], {}
    texts = documents(built)
    rows = [
        row for n in range(len(manifest.parts)) for row in pq.read_table(built.store.part_path(manifest, n)).to_pylist()
    ]
    for one, row in zip(texts, rows, strict=True):
        values = {name.partition(".")[2]: value for name, value in row.items()}
        values["covered"] = [one["text"].encode()[s["start"] : s["end"]].decode() for s in values["repeats"]]
        values["doc_id"] = one["doc_id"]
        found[one["url"].rpartition("/")[2]] = values
    return found


def removed_words(texts: Mapping[str, str], ids: Mapping[str, str], n: int) -> dict[str, set[int]]:
    """Return by name the numbers of the words that go: those in a window that an earlier one equals."""
    seen, gone = set[tuple[str, ...]](), {name: set[int]() for name in texts}
    for name in sorted(texts, key=lambda name: ids[name]):
        own = texts[name].split()
        for start in range(len(own) - n + 1):
            window = tuple(own[start : start + n])
            if window in seen:
                gone[name].update(range(start, start + n))
            seen.add(window)
    return gone


def planted(seed: int, number: int, n: int) -> dict[str, str]:
    """Return texts that share runs of words just below, at and above n words."""
    random = np.random.default_rng(seed)
    shared = [words(random, length) for length in (n - 1, n, n + 1, 2 * n, 3 * n)]
    texts = {}
    for name in range(number):
        pieces = []
        for _ in range(int(random.integers(1, 5))):
            pieces += words(random, int(random.integers(1, 12)))
            pieces += shared[int(random.integers(0, len(shared)))] if random.random() < 0.6 else []
        texts[f"{name}"] = " ".join(pieces)
    return texts


@pytest.mark.parametrize("n", [5, 20])
def test_substrings_are_those_of_plain_windows(n: int, tmp_path: Path) -> None:
    texts = planted(n, 40, n) | {"empty": "", "one": "word", "itself": " ".join(["again"] * 3 * n)}
    built = run(write(tmp_path / "in", texts, files=2), step("substrings", words=n))
    found = table(built, "substrings")
    names = [name for name in texts if name in found]
    expected = removed_words({name: texts[name] for name in names}, {name: found[name]["doc_id"] for name in names}, n)
    assert sum(map(bool, expected.values())) > 20
    for name in names:
        text, gone = texts[name], expected[name]
        ends = np.cumsum([len(word) + 1 for word in text.split()])
        starts = ends - [len(word) + 1 for word in text.split()]
        covered = {
            number
            for number, (start, end) in enumerate(zip(starts.tolist(), ends.tolist(), strict=True))
            if any(s["start"] <= start and end - 1 <= s["end"] for s in found[name]["repeats"])
        }
        assert covered == gone, name
        assert (
            found[name]["num_repeats"] == sum(set(range(s, s + n)) <= gone for s in range(len(text.split()) - n + 1))
            or gone
        )


def test_the_first_occurrence_may_go_too(tmp_path: Path) -> None:
    run_of = " ".join(words(np.random.default_rng(1), 60))
    folder = write(tmp_path / "in", {"a": f"first {run_of} end", "b": f"other {run_of} stop", "c": "alone"})
    kept = table(run(folder, step("substrings")), "substrings")
    assert sorted(len(kept[name]["covered"]) for name in "ab") == [0, 1]
    none = table(run(folder, step("substrings", keep="none")), "substrings")
    assert [none[name]["covered"] for name in "abc"] == [[run_of], [run_of], []]
    assert none["a"]["longest_repeat"] == len(run_of)
    assert 0.9 < none["a"]["repeated_frac"] < 1


def test_ranges_parts_workers_and_order_do_not_matter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    texts = planted(3, 60, 20)
    usual = table(run(write(tmp_path / "0" / "in", texts), step("substrings", words=20)), "substrings")
    shuffled = dict(np.random.default_rng(1).permutation(list(texts.items())).tolist())
    sharded = step("substrings", words=20) + "[sharding]\ntask_mebibytes = 1\n"
    for ranges, workers in ((2, 2), (7, 1)):
        monkeypatch.setattr(FindRepeats, "num_partitions", lambda *_, n=ranges: n)
        big = {f"big{n}": " ".join(words(np.random.default_rng(n), 200_000)) for n in range(3)}
        built = run(write(tmp_path / f"{ranges}" / "in", shuffled | big, files=4), sharded, workers=workers)
        assert len(built.manifests["units"].parts) > 2
        found = table(built, "substrings")
        assert {name: row for name, row in found.items() if name not in big} == usual


def test_only_documents_that_are_left_count(tmp_path: Path) -> None:
    run_of = " ".join(words(np.random.default_rng(1), 60))
    short = '[[steps]]\nkind = "rules"\nrules = [{ column = "gopher_quality.num_words", min = 62 }]\n'
    folder = write(tmp_path / "in", {"a": run_of, "b": f"some more {run_of}"})
    found = table(run(folder, short + step("substrings")), "substrings")
    assert [found[name]["num_repeats"] for name in "ab"] == [0, 0]


LINES = {
    "a": "About us\nThe mill of 1736, by the river.\n\nContact\nA line of its own.",
    "b": "ABOUT US!\nAnother text.\n\nContact\n\n\nthe mill of 1848 by the River",
    "c": "Contact\nContact\n\nÀbout  us\r\nlast\n\ncontact!",
}


PIECES = {"line": r"[^\n]*\n|[^\n]+", "paragraph": r"(?:[^\n]|\n(?!\n))*\n\n+|(?:[^\n]|\n(?!\n))+"}


def plain_lines(found: Mapping[str, Mapping[str, Any]], unit: str) -> dict[str, list[str]]:
    import re

    seen, gone = set[str](), dict[str, list[str]]()
    for name in sorted(LINES, key=lambda name: found[name]["doc_id"]):
        gone[name] = []
        pieces = re.findall(PIECES[unit], LINES[name].replace("\r\n", "\n"))
        for piece in pieces:
            key = simplify_text(piece)
            if key and key in seen:
                gone[name].append(piece)
            seen.add(key)
    return gone


@pytest.mark.parametrize("unit", ["line", "paragraph"])
def test_lines_and_paragraphs_are_compared_as_simplified_text(unit: str, tmp_path: Path) -> None:
    built = run(write(tmp_path / "in", LINES), step("lines", unit=unit))
    found = table(built, "lines")
    expected = plain_lines(found, unit)
    assert {name: "".join(found[name]["covered"]) for name in LINES} == {
        name: "".join(pieces) for name, pieces in expected.items()
    }
    assert sum(map(len, expected.values())) >= (5 if unit == "line" else 1)


def test_short_lines_are_left_alone_and_scopes_keep_parts_apart(tmp_path: Path) -> None:
    found = table(run(write(tmp_path / "in", LINES), step("lines", min_characters=10)), "lines")
    assert all("Contact" not in line for row in found.values() for line in row["covered"])
    assert any("mill" in line.lower() for row in found.values() for line in row["covered"])
    folder = write(
        tmp_path / "parts", {"0": "x " * 600_000 + "\nthe same line", "1": "y " * 600_000 + "\nthe same line"}, files=2
    )
    sharded = "[sharding]\ntask_mebibytes = 1\n"
    apart = table(run(folder, step("lines", scope="part") + sharded), "lines")
    together = table(run(folder, step("lines") + sharded), "lines")
    assert sum(row["num_repeats"] for row in apart.values()) == 0
    assert sum(row["num_repeats"] for row in together.values()) == 1


def test_repeats_are_cut_out_and_judged(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(test_duplicates, "CUT", '[[steps]]\nkind = "cut"\nedits = ["lines.repeats"]\n')
    rule = '[[steps]]\nkind = "rules"\nrules = [{ column = "lines.repeated_frac", max = 0.9, reason = "said" }]\n'
    texts = {"a": "One line.\nAnd another one.\n", "b": "One line.\nA third.", "c": "And another one.\n"}
    built = run(write(tmp_path / "in", texts), step("lines") + rule)
    rows = pq.read_table(built.store.part_path(built.corpus, 0)).to_pylist()
    left = {row["url"].rpartition("/")[2]: row["text"] for row in rows}
    lines = [line for name in "abc" for line in left.get(name, "").splitlines()]
    assert sorted(lines) == ["A third.", "And another one.", "One line."]


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(st.sampled_from("abcd"), max_size=30), max_size=6), st.integers(2, 4))
def test_windows_of_any_texts_repeat_where_plain_python_says(texts: list[list[str]], n: int) -> None:
    batch = TextBatch([" ".join(text) for text in texts], [""] * len(texts))
    units = by_hash(HashUnits(unit="window", words=n).units(batch, 0)) if texts else None
    if units is None:
        return
    ids = np.array([[0, number] for number in range(len(texts))], np.uint64)
    found = find_repeats([(units, np.ones(len(texts), dtype=bool), ids)], "first")
    seen, expected = set[tuple[str, ...]](), []
    for row, text in enumerate(texts):
        for number in range(len(text) - n + 1):
            window = tuple(text[number : number + n])
            expected += [(row, number)] if window in seen else []
            seen.add(window)
    assert [(int(one["row"]), int(one["number"])) for one in found] == expected


def test_a_text_that_says_one_thing_is_linear() -> None:
    """A million equal words and lines: every window is the first one again."""
    number = 300_000
    words_alone = TextBatch(["word " * number, "line\n" * number], ["", ""])
    for unit in ("window", "line"):
        units = by_hash(HashUnits(unit=unit).units(words_alone, 0))  # type: ignore[arg-type]
        ids = np.array([[0, 0], [0, 1]], np.uint64)
        found = find_repeats([(units, np.ones(2, dtype=bool), ids)], "first")
        assert len(found) > number - 100


def test_a_range_of_occurrences_is_found_without_a_copy_of_all(tmp_path: Path) -> None:
    hashes = np.sort(np.random.default_rng(3).integers(0, 1 << 64, 1 << 18, dtype=np.uint64))
    stored = np.zeros(len(hashes), STORED)
    stored["hash"] = hashes
    (tmp_path / "units").write_bytes(stored.tobytes())
    units = open_array(tmp_path / "units", STORED)
    for partition, partitions in ((0, 1), (0, 3), (1, 3), (2, 3), (500, 1000)):
        tracemalloc.start()
        found = between(units, partition, partitions)
        _, peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        assert peak < 1 << 16
        low, high = (number * (1 << 64) // partitions for number in (partition, partition + 1))
        inside = (hashes >= np.uint64(low)) & (hashes <= np.uint64(high - 1))
        assert np.array_equal(found["hash"], hashes[inside])
    assert len(between(units[:0], 0, 1)) == 0


def test_names_that_are_taken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match="'minhash' is another signal"):
        run(write(tmp_path / "in", {"a": "b"}), step("lines", **{"as": "minhash"}))
