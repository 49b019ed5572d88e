"""Earlier corpora: what they hold is dropped by their index, and the document that it resembles is named."""

import itertools
import json
import re
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.dedup.entries import Entries, fixed_hashes, take_hashes
from headrace.pipeline.dedup.indexed import CorpusIndex, documents_to_bytes, keys_to_bytes
from headrace.pipeline.errors import IntegrityError, RecipeError
from headrace.pipeline.names import find_named
from headrace.pipeline.stages.buckets import Buckets
from headrace.pipeline.stages.earlier import _whole_rows
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


def test_bands_of_a_threshold_are_compared_with_an_index_of_the_same(tmp_path: Path) -> None:
    """They use 108 of 112 hashes, and all of them are in the index and in the estimate."""
    texts = families(1, 20)
    built = run(write(tmp_path / "first", texts), minhash(threshold=0.7))
    assert index(built, "first")["documents"] == built.corpus.rows
    folder = second_crawl(texts, tmp_path)
    found = earlier(run(folder, minhash(threshold=0.7, against=["first"])))
    assert (
        found[f"copy {min(kept(rows(built)) - {'only'})}"]["evidence"] == '{"corpus":"first","estimated_jaccard":1.0}'
    )
    assert found["new"]["reason"] is None
    with pytest.raises(RecipeError, match=r'"bands":12.*"rows":9.*the step has .*"bands":14.*"rows":8'):
        run(folder, minhash(against=["first"]))


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


@pytest.mark.parametrize("at_once", [1, 7, 50])
def test_how_much_is_looked_at_together_decides_nothing(tmp_path: Path, at_once: int) -> None:
    """Pairs are the same however few are there at a time, and of a row all come together."""
    random = np.random.default_rng(8)
    files = []
    for number in range(3):
        keys = random.integers(0, 40, 120).astype(np.uint64) << np.uint64(58)
        path = tmp_path / f"{number}.keys"
        path.write_bytes(keys_to_bytes(keys, random.integers(0, 30, len(keys)).astype(np.uint64)))
        files.append(path)
    found = CorpusIndex(files, [], 4, 64)
    own = random.integers(0, 64, 200).astype(np.uint64) << np.uint64(58)
    entries = Entries.of(own, random.integers(0, 25, 200).astype(np.uint32))
    chosen = random.random(25) < 0.8
    shared = found.shared(entries, chosen, 5)
    assert shared.num_crowded
    (whole,) = list(shared.pairs())
    pieces = list(shared.pairs(at_once))
    assert np.array_equal(np.concatenate([rows for rows, _ in pieces]), whole[0])
    assert np.array_equal(np.concatenate([numbers for _, numbers in pieces]), whole[1])
    assert len(pieces) > 1
    for one, other in itertools.pairwise(pieces):
        assert not set(one[0].tolist()) & set(other[0].tolist())
    slices = list(_whole_rows(whole[0], at_once))
    assert np.array_equal(np.concatenate([whole[1][some] for some in slices]), whole[1])
    for one_slice, other_slice in itertools.pairwise(slices):
        assert whole[0][one_slice][-1] < whole[0][other_slice][0]


def test_hashes_of_a_part_may_be_more_than_two_gibibytes() -> None:
    """Signatures of 2.6 million documents: one piece of memory, 40 times over."""
    hashes = np.random.default_rng(4).integers(0, 1 << 61, (1 << 16, 112), dtype=np.uint64)
    values = pa.py_buffer(hashes.tobytes())
    offsets = pa.py_buffer(np.arange(0, len(values) + 1, 896, dtype=np.int32).tobytes())
    column = pa.chunked_array([pa.BinaryArray.from_buffers(pa.binary(), 1 << 16, [None, offsets, values])] * 40)
    assert column.nbytes > 1 << 31
    rows = np.array([0, 0, 5, 65_535, 65_536, len(column) - 1])
    assert np.array_equal(take_hashes(column, rows, 64, Path("x")), hashes[rows % len(hashes)])
    assert len(take_hashes(column, rows[:0], 64, Path("x"))) == 0
    few = pa.chunked_array([column.chunk(0).slice(7, 3), column.chunk(0).slice(0, 0), column.chunk(1).slice(9, 1)])
    assert np.array_equal(fixed_hashes(few, 64, Path("x")), hashes[[7, 8, 9, 9]])
    uneven = pa.chunked_array([[b"12345678"], [b"1234567812345678"]])
    with pytest.raises(IntegrityError, match="x: the hashes of a column must all be equally many"):
        fixed_hashes(uneven, 64, Path("x"))


def test_which_documents_of_a_key_are_compared_does_not_depend_on_their_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They are those with the smallest ids; how many keys have more is told."""
    monkeypatch.setattr("headrace.pipeline.dedup.indexed.PAIRS_AT_ONCE", 50)
    random = np.random.default_rng(12)
    ids = random.integers(0, 1 << 63, (300, 2), dtype=np.uint64)
    ids[:40, 0] = 7
    keys = random.integers(0, 12, 300).astype(np.uint64) << np.uint64(60)
    hashes = random.integers(0, 1 << 63, (300, 2), dtype=np.uint64)
    own = Entries.of(np.arange(14, dtype=np.uint64) << np.uint64(60), np.arange(14, dtype=np.uint32))
    met = []
    for name in ("one", "other"):
        order = random.permutation(300)
        for number, mine in enumerate(np.split(order, [110, 110, 250])):
            (tmp_path / f"{name}-{number}").write_bytes(documents_to_bytes(ids[mine], hashes[mine]))
        (tmp_path / f"{name}.keys").write_bytes(keys_to_bytes(keys[order], np.arange(300, dtype=np.uint64)))
        found = CorpusIndex([tmp_path / f"{name}.keys"], [tmp_path / f"{name}-{number}" for number in range(4)], 2, 64)
        shared = found.shared(own, np.ones(14, dtype=bool), 20)
        rows, numbers = (np.concatenate(pieces) for pieces in zip(*shared.pairs(), strict=True))
        met.append({(int(row), tuple(ids[order[number]].tolist())) for row, number in zip(rows, numbers, strict=True)})
        assert shared.num_crowded == (np.unique(keys, return_counts=True)[1] > 20).sum() > 5
        assert np.array_equal(found.documents(np.arange(300))[0], ids[order])
    expected = set()
    for row, key in enumerate(own.keys):
        expected |= {(row, one) for one in sorted(map(tuple, ids[keys == key].tolist()))[:20]}
    assert met == [expected, expected]


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


@pytest.mark.parametrize(("first", "second"), [(["source"], []), ([], ["source"])])
def test_an_index_of_another_scope_is_refused_with_both_sets(
    first: list[str], second: list[str], tmp_path: Path
) -> None:
    """Keys are those of a scope, so it would find nothing."""
    texts = families(1, 10)
    index(run(write(tmp_path / "first", texts), minhash(scope=first)), "first")
    folder = second_crawl(texts, tmp_path)
    made, asked = (re.escape(json.dumps(scope)) for scope in (first, second))
    with pytest.raises(RecipeError, match=rf'"scope":{made}.*the step has .*"scope":{asked}'):
        run(folder, minhash(against=["first"], scope=second))
    same = earlier(run(folder, minhash(against=["first"], scope=first)))
    assert sum(row["reason"] is not None for row in same.values()) > 20


def test_the_index_of_a_step_without_scope_is_named_as_before_scopes_were_told(tmp_path: Path) -> None:
    _, built = first_crawl(tmp_path)
    index(built, "first")
    assert "scope" not in find_named("index", "first", built.store).config


def test_commands_say_what_is_wrong(tmp_path: Path) -> None:
    _, built = first_crawl(tmp_path)
    ran = headrace("index", built.path("corpus"), "--name", "Not A Name")
    assert (ran.status, "lower-case letters" in ran.err) == (1, True)
    ran = headrace("index", built.path("corpus"), "--name", "x", "--step", "minhash 7")
    assert (ran.status, "there are: 'minhash 2'" in ran.err) == (1, True)
    shown = headrace("index", built.path("corpus"), "--name", "first")
    assert "documents" in shown.out
