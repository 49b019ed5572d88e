"""Earlier corpora: what they hold is dropped by their index, and the document that it resembles is named."""

from pathlib import Path

import numpy as np
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.stages.buckets import Buckets
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.test_duplicates import documents, edited, families, kept, minhash, rows, run, words, write


def first_crawl(folder: Path, seed: int = 1) -> tuple[dict[str, str], Built]:
    texts = families(seed, 40)
    return texts, run(write(folder / "first", texts, files=2), minhash())


def index(built: Built, name: str, *more: object) -> dict[str, object]:
    ran = headrace("index", built.path("corpus"), "--name", name, *more, "--json")
    assert ran.status == 0, ran.err
    return dict(ran.json)


def second_crawl(texts: dict[str, str], folder: Path) -> Path:
    """Write copies of the first crawl's documents, edited copies, and new ones."""
    random = np.random.default_rng(9)
    copies = {f"copy {name}": text for name, text in list(texts.items())[:20]}
    near = {f"near {name}": " ".join(edited(random, text.split(), 2)) for name, text in list(texts.items())[20:40]}
    return write(folder / "second", {**copies, **near, "new": " ".join(words(random, 80))}, files=2)


@pytest.mark.parametrize("partitions", [1, 3])
def test_what_a_corpus_holds_is_dropped_with_its_name(
    partitions: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Buckets, "num_partitions", lambda *_: partitions)
    texts, built = first_crawl(tmp_path)
    told = index(built, "first")
    assert told["documents"] == built.corpus.rows
    second = run(second_crawl(texts, tmp_path), minhash(against=["first"]))
    found = earlier(second)
    names = {row["doc_id"]: row["url"].rpartition("/")[2] for row in documents(built)}
    alive = kept(rows(built))
    for name, row in found.items():
        if name.startswith("copy ") and name.removeprefix("copy ") in alive:
            assert row["reason"] == "near_duplicate_of_earlier"
            assert (names[row["survivor"]], row["evidence"]) == (
                name.removeprefix("copy "),
                '{"corpus":"first","estimated_jaccard":1.0}',
            )
    assert sum(row["reason"] is not None for row in found.values()) > 30
    assert found["new"]["reason"] is None
    (fate,) = why(second.store, "http://x.org/copy 0.0")
    assert fate.step in ("minhash 2 earlier", "cut", "minhash 2 verdicts")


def earlier(built: Built, label: str = "minhash 2 earlier") -> dict[str, dict[str, object]]:
    import pyarrow.parquet as pq

    step = next(step for step in built.lock.steps if step.label == label)
    names = {row["doc_id"]: row["url"].rpartition("/")[2] for row in documents(built)}
    paths = sorted(built.store.artifact_folder(step.stage, step.key).glob("*.parquet"))
    return {names[row["doc_id"]]: row for path in paths for row in pq.read_table(path).to_pylist()}


def test_of_several_corpora_the_nearest_is_named(tmp_path: Path) -> None:
    random = np.random.default_rng(2)
    text = words(random, 100)
    for name, changes in (("far", 1), ("close", 0)):
        folder = write(tmp_path / name, {name: " ".join(edited(random, text, changes))})
        index(run(folder, minhash()), name)
    again = run(write(tmp_path / "in", {"x": " ".join(text)}), minhash(against=["far", "close"], similarity=0.5))
    assert '"corpus":"close","estimated_jaccard":1.0' in str(earlier(again)["x"]["evidence"])
    only = run(write(tmp_path / "in", {"x": " ".join(text)}), minhash(against=["far"], similarity=0.5))
    assert '"corpus":"far"' in str(earlier(only)["x"]["evidence"])


def test_what_the_corpus_dropped_is_not_in_its_index(tmp_path: Path) -> None:
    text = " ".join(words(np.random.default_rng(3), 100))
    rule = '[[steps]]\nkind = "rules"\nrules = [{ column = "gopher_quality.num_words", max = 50 }]\n'
    built = run(write(tmp_path / "first", {"a": text}), minhash() + rule)
    assert index(built, "short")["documents"] == 1  # the one of the other source
    again = run(write(tmp_path / "in", {"b": text}), minhash(against=["short"]))
    assert earlier(again)["b"]["kept"]


def test_exact_duplicates_of_a_corpus_are_dropped_by_digest(tmp_path: Path) -> None:
    step = '[[steps]]\nkind = "exact"\n'
    built = run(write(tmp_path / "first", {"a": "The same text.", "b": "Another."}), step)
    index(built, "texts")
    again = run(write(tmp_path / "in", {"x": "The same\ntext.", "y": "A third."}), step + 'against = ["texts"]\n')
    found = earlier(again, "exact 2 earlier")
    assert (found["x"]["reason"], found["y"]["reason"]) == ("exact_duplicate_of_earlier", None)


def test_exact_duplicates_of_a_corpus_are_dropped_by_payload(tmp_path: Path) -> None:
    step = '[[steps]]\nkind = "exact"\ncolumn = "payload_digest"\n'
    built = run(write(tmp_path / "first", {"a": "The same text.", "b": "Another."}), step)
    index(built, "payloads")
    folder = write(tmp_path / "in", {"x": "The same text.", "y": "The same\ntext."})
    found = earlier(run(folder, step + 'against = ["payloads"]\n'), "exact 2 earlier")
    assert (found["x"]["reason"], found["y"]["reason"]) == ("exact_duplicate_of_earlier", None)
    with pytest.raises(RecipeError, match=r'"document":"payload_digest".*the step has .*"signal":"digest"'):
        run(folder, '[[steps]]\nkind = "exact"\nagainst = ["payloads"]\n')


def test_an_index_of_other_hashes_is_refused_with_both_sets(tmp_path: Path) -> None:
    texts, built = first_crawl(tmp_path)
    index(built, "first")
    folder = second_crawl(texts, tmp_path)
    with pytest.raises(RecipeError, match=r'"bands":14.*"rows":8.*the step has .*"bands":28.*"rows":4'):
        run(folder, minhash(against=["first"], rows=4))
    with pytest.raises(RecipeError, match=r"no index is called 'frist'.*did you mean 'first'"):
        run(folder, minhash(against=["frist"]))


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    _, built = first_crawl(tmp_path)
    ran = headrace("index", built.path("corpus"), "--name", "Not A Name")
    assert (ran.status, "lower-case letters" in ran.err) == (1, True)
    ran = headrace("index", built.path("corpus"), "--name", "x", "--step", "minhash 7")
    assert (ran.status, "there are: 'minhash 2'" in ran.err) == (1, True)
    shown = headrace("index", built.path("corpus"), "--name", "first")
    assert "documents" in shown.out
