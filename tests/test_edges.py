"""Edges: bad recipes, hurried neighbours, odd corpora; each once gave a wrong result or an unreadable error."""

import errno
import os
import shutil
from collections.abc import Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline import engines
from headrace.pipeline.build import Built, build, plan
from headrace.pipeline.engines import Bundle, make_engine
from headrace.pipeline.errors import InputError, LockError, RecipeError
from headrace.pipeline.raw_files import find_files
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.schema import TOKENS, TaskInput
from headrace.pipeline.serving import window_edges
from headrace.pipeline.split import HELDOUT_UNIT, heldout_column, heldout_rows, is_heldout
from headrace.pipeline.stages.contract import Planning
from headrace.pipeline.stages.read import Read, SourceConfig
from headrace.pipeline.stages.stream_index import StreamIndex
from headrace.pipeline.store import Store, link
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.tables import ROW_GROUP_BYTES, TableWriter, write_table
from headrace.pipeline.verify import verify
from headrace.pipeline.walk import BuildOptions
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import CorpusWeight, DataConfig
from tests.making import RECIPE, article, make_crawl, page, recompress, write_warc

ONLY_CUT = RECIPE[RECIPE.index("[[sources]]") : RECIPE.index("[[steps]]")] + "[[steps]]\nkind = 'cut'\n"


@pytest.fixture(scope="module")
def crawl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_crawl(tmp_path_factory.mktemp("crawl"), num_files=2, pages_per_file=8)


def recipe(text: str = RECIPE, changes: Mapping[str, str] | None = None) -> Recipe:
    for old, new in (changes or {}).items():
        assert old in text
        text = text.replace(old, new)
    return parse_toml(Recipe, text, "edge.toml")


def run(made: Recipe, store: Path, glob: str | Path, workers: int = 1, **options: float) -> Built:
    return build(made, Store.open(store), make_engine(workers), BuildOptions({"web": str(glob)}, **options))


MISFITS = {
    "unknown span column": ('"pii@c4.redactions"', '"pii@c4.redaction"', "did you mean 'pii@c4.redactions'"),
    "edits that are no spans": ('"c4.removed"', '"gopher_quality.num_words"', "kind 'int', but cut edits text by"),
    "unknown rule column": ("quality.num_words", "quality.num_wrods", "did you mean 'gopher_quality.num_words'"),
    "bounds on spans": ("gopher_quality.num_words", "c4.removed", "kind 'spans', but min and max compare numbers"),
    "unknown when": ("min = 20", 'min = 20, when = { sorce = "web" }', "'sorce', no document has that"),
    "view without spans": ('view = "c4"', 'view = "gopher_quality"', "makes no view"),
    "view not measured": ('"gopher_quality", "c4"', '"gopher_quality"', "add 'c4' to a measure step"),
    "bands": (
        'signal = "minhash@c4"',
        'signal = "minhash@c4"\nbands = 9',
        "9 bands of 12 rows .* take 8 bands of 14",
    ),
    "no signatures": ('signal = "minhash@c4"', 'signal = "c4"', "no column 'c4.signature'"),
}


@pytest.mark.parametrize("name", MISFITS)
def test_steps_that_do_not_fit_are_refused_before_anything_is_read(name: str, crawl: Path, tmp_path: Path) -> None:
    old, new, complaint = MISFITS[name]
    with pytest.raises(RecipeError, match=complaint):
        run(recipe(changes={old: new}), tmp_path, crawl / "*.gz")
    assert not list(tmp_path.glob("tasks/*"))


def test_a_store_that_was_killed_at_birth_is_opened(tmp_path: Path) -> None:
    (tmp_path / ".store.json-0123456789abcdef").write_bytes(b"{")
    assert (Store.open(tmp_path).root / "store.json").exists()


def test_two_builds_publish_one_artifact(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.write_text("rows")
    real = os.link

    def hurried(one: Path, other: Path) -> None:
        monkeypatch.undo()
        real(source, target)  # the other build, between our look and our link
        real(one, other)

    monkeypatch.setattr(os, "link", hurried)
    link(source, target)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["source", "target"]


def test_a_part_cut_short_is_made_again(crawl: Path, tmp_path: Path) -> None:
    first = run(recipe(), tmp_path, crawl / "*.gz")
    part = next(Path(first.path("corpus")).parent.glob("*.parquet"))
    with part.open("r+b") as file:
        file.truncate(100)  # it is a link: the task's own file is cut short with it
    assert run(recipe(), tmp_path, crawl / "*.gz").corpus.content == first.corpus.content
    assert verify(tmp_path).ok


def test_a_part_made_anew_with_other_bytes_gets_a_new_manifest(crawl: Path, tmp_path: Path) -> None:
    first = run(recipe(), tmp_path, crawl / "*.gz")
    folder = Path(first.path("corpus")).parent
    next(folder.glob("*.parquet")).unlink()
    shutil.rmtree(tmp_path / "tasks" / "cut")
    with pytest.MonkeyPatch.context() as patch:  # as another version of the writer would: the same rows in other bytes
        patch.setattr(pq, "ParquetWriter", partial(pq.ParquetWriter, compression_level=19))
        again = run(recipe(), tmp_path, crawl / "*.gz")
    assert again.corpus.content == first.corpus.content
    assert again.corpus.parts != first.corpus.parts
    assert verify(tmp_path).ok


def test_a_file_system_without_links(crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*paths: Path) -> None:
        raise PermissionError(errno.EPERM, "Operation not permitted", *map(str, paths))

    with monkeypatch.context() as patch:
        patch.setattr(os, "link", refuse)
        copied = run(recipe(), tmp_path / "copied", crawl / "*.gz")
    assert copied.corpus.content == run(recipe(), tmp_path / "linked", crawl / "*.gz").corpus.content
    assert verify(tmp_path / "copied").ok


def pages(numbers: Iterable[int]) -> list[tuple[str, bytes]]:
    return [(f"https://example.org/{number}", page(f"Page {number}", article(number))) for number in numbers]


@pytest.mark.parametrize("mebibytes", [1, 512])
def test_limit_counts_no_document_twice(tmp_path: Path, mebibytes: int) -> None:
    for number in range(3):  # every file has the pages of the first, and some of its own
        write_warc(tmp_path / "crawl" / f"{number}.warc.gz", pages([0, 1, 0, *range(2, 3 + number)]))
    made = recipe(changes={"task_mebibytes = 1": f"task_mebibytes = {mebibytes}"})
    for limit, rows in ((2, 2), (4, 4), (5, 5), (9, 5)):
        built = run(made, tmp_path / "store", tmp_path / "crawl" / "*.gz", limit=limit)
        assert built.corpus.rows == rows


def test_a_limited_build_holds_to_its_lock(crawl: Path, tmp_path: Path) -> None:
    made, limit = recipe(), 12  # more than one file, and so more than one reading
    lock = run(made, tmp_path / "one", crawl / "*.gz", limit=limit).lock
    options = BuildOptions({"web": str(crawl / "*.gz")}, limit=limit)
    assert build(made, Store.open(tmp_path / "two"), make_engine(1), options, locked=lock).lock == lock
    for path in crawl.glob("*.gz"):
        recompress(path, tmp_path / "other" / path.name, level=1)
    other = BuildOptions({"web": str(tmp_path / "other" / "*.gz")}, limit=limit)
    with pytest.raises(LockError, match="'read' is not what the lock names: inputs"):
        build(made, Store.open(tmp_path / "two"), make_engine(1), other, locked=lock)


@pytest.mark.parametrize("options", [{"sample": 0.0}, {"sample": 1.5}, {"sample": float("nan")}, {"limit": 0}])
def test_shares_and_limits_that_cannot_be(crawl: Path, tmp_path: Path, options: dict[str, float]) -> None:
    with pytest.raises(InputError, match=r"--sample is .* above 0 .* 1|--limit is 0"):
        run(recipe(), tmp_path, crawl / "*.gz", **options)


def test_a_limited_build_of_no_record_is_refused(tmp_path: Path) -> None:
    (tmp_path / "page.warc").write_text("no record at all")
    with pytest.raises(InputError, match="no record could be read"):
        run(recipe(), tmp_path / "store", tmp_path / "page.warc", limit=3)


def bundles_of(crawl: Path, store: Store) -> list[Bundle]:
    stage = Read(sources=(SourceConfig(name="web", reader="warc", extractor="resiliparse"),))
    files = find_files("web", str(crawl / "*.gz"), store)
    return [(task,) for task in stage.plan_sized(Planning(store, files={"web": files}), 8000)]


def test_a_pool_whose_workers_died_says_so_and_works_again(
    crawl: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store, engine = Store.open(tmp_path), make_engine(2)
    bundles = bundles_of(crawl, store)
    assert len(bundles) == 2
    with monkeypatch.context() as patch:
        patch.setattr(engines, "os", SimpleNamespace(getpid=lambda: 1))  # a worker whose parent is another one leaves
        ended = list(engine.run(bundles, store.root))
    assert "a worker died" in str(ended[-1].error)
    assert [outcome.error for outcome in engine.run(bundles, store.root)] == [None, None]
    engine.close()
    assert [outcome.error for outcome in engine.run(bundles, store.root)] == [None, None]
    engine.close()


def test_a_pool_that_could_not_take_all_bundles(tmp_path: Path, crawl: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(*arguments: object) -> None:
        raise BrokenProcessPool("a child process terminated abruptly")

    monkeypatch.setattr(ProcessPoolExecutor, "submit", broken)  # a worker died while bundles were being handed out
    store, engine = Store.open(tmp_path), make_engine(2)
    (outcome,) = engine.run(bundles_of(crawl, store), store.root)
    assert "a worker died" in str(outcome.error)
    engine.close()


def test_a_file_that_changes_under_the_build(crawl: Path, tmp_path: Path) -> None:
    store = Store.open(tmp_path / "store")
    path = Path(shutil.copy(next(crawl.glob("*.gz")), tmp_path / "crawl.warc.gz"))
    (bundle,) = bundles_of(tmp_path, store)
    data = bytearray(path.read_bytes())
    data[4] ^= 1  # of the time in the gzip header: as long as before, and as readable
    path.write_bytes(data)
    (outcome,) = make_engine(1).run([bundle], store.root)
    assert "the file changed while the build ran" in str(outcome.error)
    assert store.find_commit(bundle[0]) is None


def test_a_tokenizer_that_cannot_be_is_refused_first(crawl: Path, tmp_path: Path) -> None:
    for name in ("a.json", "b.json"):
        (tmp_path / name).write_text("{}")
    for name, complaint in (
        ("none.json", "no file matches"),
        ("*.json", "names 2 files"),
        ("a.json", "not a tokenizer.json"),
    ):
        made = recipe(changes={"vocab_size = 400": f'tokenizer = "{tmp_path / name}"'})
        with pytest.raises(InputError, match=complaint):
            run(made, tmp_path / "store", crawl / "*.gz")
    assert not (tmp_path / "store" / "tasks").exists()


def test_names_that_are_no_text(crawl: Path, tmp_path: Path) -> None:
    shutil.copy(next(crawl.glob("*.gz")), os.fsencode(tmp_path) + b"/\xff.warc.gz")
    with pytest.raises(InputError, match="is not UTF-8; rename it"):
        run(recipe(), tmp_path / "store", tmp_path / "*.gz")


def test_long_documents_are_written_before_they_are_many(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    long = "A long line of words that goes on.\n" * 60_000  # 2 MB
    for number in range(20):
        (tmp_path / f"{number}.txt").write_text(f"{number}\n{long}")
    held: list[int] = []
    real = TableWriter.write

    def watched(writer: TableWriter, batch: pa.RecordBatch) -> None:
        held.append(batch.nbytes)
        real(writer, batch)

    monkeypatch.setattr(TableWriter, "write", watched)
    texts = {'"warc"': '"text"', '"resiliparse"': '"plain"'}
    built = run(recipe("name = 'long'\n" + ONLY_CUT, texts), tmp_path / "store", tmp_path / "*.txt")
    assert built.corpus.rows == 20
    assert max(held) <= ROW_GROUP_BYTES


def test_a_corpus_of_nothing_has_all_its_artifacts(crawl: Path, tmp_path: Path) -> None:
    built = run(recipe(changes={"min = 20": "min = 20000"}), tmp_path, crawl / "*.gz")
    assert (built.corpus.rows, built.manifests["tokens"].facts["tokens"]) == (0, 0)
    assert verify(tmp_path).ok
    data = DataConfig(corpora=[CorpusWeight(tokens=built.path("tokens"))], sequence_length=8, global_batch=1)
    with pytest.raises(InputError, match="no document is left to train on"):
        open_stream(data, seed=0)


def test_windows_of_long_documents_are_short(tmp_path: Path) -> None:
    store = Store.open(tmp_path)
    lengths, clusters = [5, 5, 90, 5, 5, 5, 5], ["a", None, "a", "b", "b", None, None]
    keys = ["0" * 16, "f" * 16, "f" * 16, "f" * 16, "f" * 16, "0" * 16, "f" * 16]  # the first and sixth are held out
    rows = [
        {"order": n, "doc_id": f"{n:032x}", "tokens": b"ab" * length, "num_tokens": length, "num_bytes": length}
        | {"source": "web", "split_key": key, "cluster": cluster}
        for n, (length, cluster, key) in enumerate(zip(lengths, clusters, keys, strict=True))
    ]
    write_table(tmp_path / "tokens.parquet", TOKENS, [pa.RecordBatch.from_pylist(rows, schema=TOKENS)], {})
    stage = StreamIndex(sequence_length=4, window_documents=3, window_positions=20, heldout=100)
    task = stage.task([TaskInput(role="tokens", content="0" * 64, path="tokens.parquet")])
    made = stage.run(task, store)
    made.ledger.check("index")
    windows, left_out = (
        pq.read_table(store.task_folder(task) / made.files[name].name).to_pylist() for name in made.files
    )
    assert left_out == [{"part": 0, "row": 2, "doc_id": f"{2:032x}"}]
    found = [(w["split"], w["first_document"], w["num_documents"], w["num_served"], w["num_rows"]) for w in windows]
    assert found == [
        *(("train", 0, 3, 1, 2), ("heldout", 0, 3, 1, 2)),
        *(("train", 3, 3, 2, 3), ("heldout", 3, 3, 1, 2)),
        *(("train", 6, 1, 1, 2), ("heldout", 6, 1, 0, 0)),
    ]
    assert list(window_edges(np.array(lengths) + 1, 8192, 20)) == [(0, 3), (3, 7)]


@given(st.lists(st.integers(0, 2**64 - 1), max_size=20), st.integers(0, HELDOUT_UNIT))
def test_held_out_many_at_once(keys: list[int], heldout: int) -> None:
    names = [f"{key:016x}" for key in keys]
    expected = [is_heldout(name, heldout) for name in names]
    assert heldout_rows(names, heldout).tolist() == expected
    column = pa.chunked_array([pa.array(["f" * 16, *names]).slice(1), pa.array([], pa.string())])
    assert heldout_column(column, heldout).tolist() == expected


def test_what_the_tokenizer_saw_cannot_be_held_out(crawl: Path, tmp_path: Path) -> None:
    built = run(recipe(), tmp_path, crawl / "*.gz")  # 100 in 10,000 were kept from the tokenizer
    data = DataConfig(corpora=[CorpusWeight(tokens=built.path("tokens"))], sequence_length=8, global_batch=1, heldout=0)
    assert open_stream(data, seed=0).batch(0).tokens.shape == (1, 8)
    with pytest.raises(InputError, match=r"only 100 were kept from the tokenizer; set heldout = 0\.01"):
        open_stream(data.model_copy(update={"heldout": 0.05}), seed=0)


def test_a_plan_over_a_part_that_is_gone(crawl: Path, tmp_path: Path) -> None:
    built = run(recipe(), tmp_path, crawl / "*.gz", limit=5)
    next(Path(built.path("documents")).parent.glob("documents-*.parquet")).unlink()
    options = BuildOptions({"web": str(crawl / "*.gz")}, limit=5)
    assert [step.label for step in plan(recipe(), built.store, options)] == ["read"]


def test_a_rank_that_is_none(crawl: Path, tmp_path: Path) -> None:
    built = run(recipe(), tmp_path, crawl / "*.gz")
    data = DataConfig(corpora=[CorpusWeight(tokens=built.path("tokens"))], sequence_length=8, global_batch=4)
    with pytest.raises(InputError, match="there is no process 2 of 2"):
        open_stream(data, seed=0).batch(0, 2, 2)
