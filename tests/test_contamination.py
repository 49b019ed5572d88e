"""Decontamination: planted items at known places, in files of every format; what is common says nothing."""

import gzip
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.filters.utf8 import Utf8
from headrace.pipeline.build import Built
from headrace.pipeline.contamination.index import EvaluationIndex
from headrace.pipeline.contamination.items import Item, read_items
from headrace.pipeline.errors import InputError, RecipeError
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.test_duplicates import run, unique, words, write

QUESTION = "Which of the seven bridges over the Pregel did the old mill's owner cross, twice, on the 13th of May 1736?"
SHORT = "How many bridges did Euler find in Königsberg?"
TINY = "What is that?"


def plain(number: int, seed: int = 1) -> str:
    return " ".join(words(np.random.default_rng(seed), number))


def sets(folder: Path, *items: str, **keys: Any) -> str:
    """Return a step that looks for items, which it writes into a file."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "eval.jsonl").write_text(
        "".join(json.dumps({"q": item, "id": f"i{n}"}) + "\n" for n, item in enumerate(items))
    )
    one = f'{{ name = "bridges", path = "{folder}/eval.jsonl", fields = ["q"], id = "id" }}'
    keys = {"kind": "decontaminate", **keys}
    return (
        "[[steps]]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in keys.items()) + f"sets = [{one}]\n"
    )


def table(built: Built) -> dict[str, dict[str, Any]]:
    manifest = built.manifests["signals:contamination"]
    documents = built.manifests["documents"]
    found = {}
    for part in range(len(manifest.parts)):
        urls = pq.read_table(built.store.part_path(documents, part), columns=["url", "text"]).to_pylist()
        rows = pq.read_table(built.store.part_path(manifest, part)).to_pylist()
        for one, row in zip(urls, rows, strict=True):
            values = {name.partition(".")[2]: value for name, value in row.items()}
            values["covered"] = [one["text"].encode()[s["start"] : s["end"]].decode() for s in values["spans"]]
            found[one["url"].rpartition("/")[2]] = values
    return found


def test_planted_items_are_found_where_they_stand(tmp_path: Path) -> None:
    pages = {
        "whole": f"{plain(40)} é日本 {QUESTION} {plain(30, 2)}",
        "written otherwise": plain(20, 3) + " " + QUESTION.upper().replace(" ", "\n ").replace(",", " --"),
        "half": plain(20, 4) + " " + " ".join(QUESTION.split()[:15]) + " " + plain(20, 5),
        "paraphrase": "The mill owner walked over two of the Pregel's seven bridges in May 1736, on the 13th.",
        "short": f"{plain(10, 6)} {SHORT.lower()} {plain(10, 7)}",
        "tiny": f"{TINY} {plain(20, 8)}",
        "twice": f"{QUESTION} {plain(30, 9)} {QUESTION}",
        "nothing": plain(50, 10),
    }
    found = table(run(write(tmp_path / "in", pages), sets(tmp_path / "eval", QUESTION, SHORT, TINY)))
    covered = QUESTION.removesuffix("?")
    assert found["whole"]["covered"] == [covered]
    assert found["written otherwise"]["item_frac"] == 1
    assert found["half"]["covered"] == [" ".join(QUESTION.split()[:15]).removesuffix(",")]
    assert 0 < found["half"]["item_frac"] < 0.5
    assert found["short"]["covered"] == [SHORT.lower().removesuffix("?")]
    assert found["twice"]["covered"] == [covered] * 2
    assert [name for name, row in found.items() if row["num_ngrams"]] == [
        "whole",
        "written otherwise",
        "half",
        "short",
        "twice",
    ]
    assert {(found[name]["benchmark"], found[name]["item"]) for name in ("whole", "half")} == {("bridges", "i0")}
    assert found["short"]["item"] == "i1"
    assert json.loads(found["half"]["evidence"])[0]["text"].startswith("Which of the seven")
    assert found["nothing"]["weighted_frac"] == 0


def test_other_lengths_of_ngrams_find_shorter_matches(tmp_path: Path) -> None:
    page = write(tmp_path / "in", {"a": plain(10) + " " + " ".join(QUESTION.split()[3:12]) + " " + plain(10, 2)})
    assert table(run(page, sets(tmp_path / "eval", QUESTION)))["a"]["num_ngrams"] == 0
    assert table(run(page, sets(tmp_path / "eval", QUESTION, n=8)))["a"]["num_ngrams"] == 3


def test_what_many_documents_have_is_common_and_says_nothing(tmp_path: Path) -> None:
    common = "please choose the one correct answer among the following four that are given below"
    item = f"{common}: {QUESTION}"
    pages = {f"{number}": f"{plain(20, number)} {common} {unique(number + 1)}" for number in range(12)}
    pages["whole"] = f"{plain(20, 99)} {item}"
    built = run(write(tmp_path / "in", pages), sets(tmp_path / "eval", item, max_documents=10))
    found = table(built)
    assert found["3"]["num_ngrams"] > 0
    assert (found["3"]["rare_ngrams"], found["3"]["spans"], found["3"]["weighted_frac"]) == (0, [], 0)
    assert found["whole"]["weighted_frac"] == 1
    assert found["whole"]["rare_ngrams"] < found["whole"]["num_ngrams"]
    (span,) = found["whole"]["covered"]
    assert QUESTION.removesuffix("?") in span
    assert common.split(maxsplit=1)[0] not in span.split()[:1]
    every = table(run(write(tmp_path / "in", pages), sets(tmp_path / "eval", item, max_documents=13)))
    assert every["3"]["rare_ngrams"] == every["3"]["num_ngrams"]


def test_only_documents_that_are_left_count(tmp_path: Path) -> None:
    pages = {f"{number}": f"{plain(20, number)} {QUESTION}" for number in range(3)} | {
        "long": f"{plain(900)} {QUESTION}"
    }
    few = '[[steps]]\nkind = "rules"\nrules = [{ column = "gopher_quality.num_words", max = 500 }]\n'
    step = sets(tmp_path / "eval", QUESTION, max_documents=3)
    folder = write(tmp_path / "in", pages)
    assert table(run(folder, step))["0"]["rare_ngrams"] == 0
    assert table(run(folder, few + step))["0"]["rare_ngrams"] > 0


DROP = """
[[steps]]
kind = "rules"
rules = [{ column = "contamination.weighted_frac", max = 0.8, on_null = "keep", reason = "contaminated" }]
"""


def test_documents_are_dropped_and_the_evidence_is_told(tmp_path: Path) -> None:
    pages = {"a": f"{plain(40)} {QUESTION}", "b": plain(40, 2)}
    built = run(write(tmp_path / "in", pages), sets(tmp_path / "eval", QUESTION) + DROP)
    assert built.corpus.rows == 2  # b, and the one of the other source
    (fate,) = why(built.store, "http://x.org/a")
    assert fate.reason == "contaminated"
    told = {item.column: item.value for step in fate.steps for item in step.measured}
    assert (told["contamination.benchmark"], told["contamination.item"]) == ("bridges", "i0")
    assert "Pregel" in str(told["contamination.evidence"])


def test_spans_are_cut_out_also_on_a_view(tmp_path: Path) -> None:
    pages = {"a": f"Before it. {plain(30)}.\nlorem {{\n{QUESTION}\n{plain(30, 2)}."}
    step = sets(tmp_path / "eval", QUESTION)
    cut = '[[steps]]\nkind = "cut"\nedits = ["contamination.spans"]\n'
    folder = write(tmp_path / "in", pages)
    from tests import test_duplicates

    before, test_duplicates.CUT = test_duplicates.CUT, cut
    try:
        built = run(folder, step)
    finally:
        test_duplicates.CUT = before
    (text,) = (
        row["text"]
        for row in pq.read_table(built.store.part_path(built.corpus, 0)).to_pylist()
        if row["url"].endswith("/a")
    )
    assert "Pregel" not in text
    assert text.startswith("Before it.")
    measured = '[[steps]]\nkind = "measure"\nsignals = ["c4"]\n'
    on_view = run(folder, measured + sets(tmp_path / "eval", QUESTION, view="c4"))
    rows = pq.read_table(on_view.store.part_path(on_view.manifests["signals:contamination@c4"], 0)).to_pylist()
    (spans,) = (row["contamination@c4.spans"] for row in rows if row["contamination@c4.num_ngrams"])
    assert pages["a"].encode()[spans[0]["start"] : spans[0]["end"]].decode() == QUESTION.removesuffix("?")


def test_items_are_read_from_every_format(tmp_path: Path) -> None:
    rows = [{"q": "one", "a": {"t": ["x", "y"]}, "n": 7}, {"q": "two", "a": {"t": []}, "n": 8}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    files: dict[str, bytes] = {
        "a.jsonl": lines.encode(),
        "a.json": json.dumps(rows).encode(),
        "a.json.gz": gzip.compress(json.dumps(rows).encode()),
        "nested.json": json.dumps({"v": 1, "data": [{"items": rows[:1]}, {"items": rows[1:]}]}).encode(),
        "a.csv": b"q,n\none,7\ntwo,8\n",
        "a.tsv": b"q\tn\none\t7\ntwo\t8\n",
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
    pq.write_table(pa.Table.from_pylist(rows), tmp_path / "a.parquet")
    for name in [*files, "a.parquet"]:
        records = "data.items" if name == "nested.json" else ""
        found = list(read_items("s", [tmp_path / name], ["q"], records, "n"))
        assert [(item.name, item.texts) for item in found] == [("7", ("one",)), ("8", ("two",))], name
    assert next(read_items("s", [tmp_path / "a.jsonl"], ["a.t", "q"])).texts == ("x", "y", "one")
    (tmp_path / "a.txt").write_text("first line\n\nsecond line\n")
    assert [item.texts for item in read_items("s", [tmp_path / "a.txt"], ["text"])] == [
        ("first line",),
        ("second line",),
    ]


@pytest.mark.parametrize(
    ("name", "data", "fields", "complaint"),
    [
        (
            "a.jsonl",
            b'{"q": "x"}\n',
            ["question"],
            r"a.jsonl: no record of 's' has a text under 'question'; the first has q",
        ),
        ("a.jsonl", b'{"q": "x"}\n{"q"\n', ["q"], "line 2 is no JSON"),
        ("a.json", b'{"data": []}', ["q"], "no list of records under ''; it has data; say where with `records`"),
        ("a.json", b"[", ["q"], "cannot be read as json"),
        ("a.json.gz", b"no gzip", ["q"], "cannot be read as json"),
        ("a.parquet", b"PAR1", ["q"], "cannot be read as Parquet"),
        ("a.txt", b"\xff\xfe", ["text"], "cannot be read as txt"),
        ("a.xml", b"<a/>", ["q"], "not known what is in it"),
    ],
)
def test_bad_files_are_named(name: str, data: bytes, fields: list[str], complaint: str, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(InputError, match=complaint):
        list(read_items("s", [tmp_path / name], fields))


def test_steps_that_cannot_be_are_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "in", {"a": "text"})
    with pytest.raises(RecipeError, match="'minhash' is another signal"):
        run(folder, sets(tmp_path / "eval", QUESTION, **{"as": "minhash"}))
    twice = sets(tmp_path / "eval", QUESTION)
    twice = twice[: twice.rindex("]")] + ", " + twice[twice.index("{ name") :]
    with pytest.raises(RecipeError, match="two evaluation sets share a name"):
        run(folder, twice)


def test_an_index_is_the_same_after_a_file(tmp_path: Path) -> None:
    items = [Item("a", 0, "x", (QUESTION,)), Item("b", 0, "y", (QUESTION, SHORT)), Item("b", 1, "z", (TINY,))]
    index = EvaluationIndex.build(items, 13, 8)
    (tmp_path / "i.npz").write_bytes(index.to_bytes())
    again = EvaluationIndex.open(tmp_path / "i.npz")
    assert again.to_bytes() == index.to_bytes()
    assert index.num_ngrams.tolist() == [10, 11, 0]
    for one in (index, again):
        found = one.find(Utf8.of([QUESTION, "", TINY, SHORT]))
        assert np.diff(found.first).tolist() == [10, 0, 0, 1]
        items_found, num, total = one.items_with(np.unique(found.ngrams[:10]))
        assert (items_found.tolist(), num.tolist(), total.tolist()) == ([0, 1], [10, 10], [10, 11])


def test_the_report_tells_of_each_set(tmp_path: Path) -> None:
    pages = {
        "a": f"{plain(40)} {QUESTION}",
        "b": plain(20, 2) + " " + " ".join(QUESTION.split()[:15]),
        "c": plain(40, 3),
    }
    built = run(write(tmp_path / "in", pages), sets(tmp_path / "eval", QUESTION, SHORT, TINY) + DROP)
    ran = headrace("contamination", built.path("corpus"), "--json")
    (one,) = ran.json["benchmarks"]
    assert (one["items"], one["searchable"], one["found"], one["held"]) == (3, 2, 1, [1, 1, 1])
    assert (one["documents"], one["kept"]) == (2, 1)
    first, second = ran.json["strongest"]
    assert (first["url"], first["kept"], first["weighted_frac"], first["item"]) == ("http://x.org/a", False, 1, "i0")
    assert second["kept"]
    shown = headrace("contamination", built.path("corpus"))
    assert "dropped; holds 100% of bridges i0" in shown.out
    ran = headrace("contamination", run(write(tmp_path / "no" / "in", pages), "").path("corpus"))
    assert (ran.status, "there are: none" in ran.err) == (1, True)


def test_what_is_counted_among_documents_is_not_guessed_for_others(tmp_path: Path) -> None:
    """A step `best` by it, behind a changed rule, is for a build to decide; without one a note says so."""
    few = '[[steps]]\nkind = "rules"\nrules = [{ column = "gopher_quality.num_words", max = 500 }]\n'
    best = '[[steps]]\nkind = "best"\ncolumn = "contamination.weighted_frac"\nbest = "lowest"\nshare = 0.5\n'
    pages = {f"{number}": plain(40 + number, number) + f" {QUESTION}" for number in range(4)}
    folder, step = write(tmp_path / "in", pages), sets(tmp_path / "eval", QUESTION)
    changed = ["--set", "gopher_quality.num_words <= 63"]
    ran = headrace("rules", run(folder, few + step + best).path("corpus"), *changed)
    assert (ran.status, "'contamination' is counted among the documents that are left" in ran.err) == (1, True)
    ran = headrace("rules", run(folder, few + step).path("corpus"), *changed)
    assert "note: decontaminate 3: it is counted among the documents that are left" in ran.out
