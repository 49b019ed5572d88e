"""Law 3: a batch is a pure function of plan and step; every token of an epoch is served exactly once."""

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.filters.urls import canonical_url
from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import make_engine
from headrace.pipeline.errors import InputError
from headrace.pipeline.recipe import load_recipe
from headrace.pipeline.split import is_heldout, split_key
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.objectives.contract import make_objective
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import CorpusWeight, DataConfig
from headrace.trainer.streaming.permutation import permutation
from headrace.trainer.trace import trace
from tests.making import RECIPE, make_crawl, write_recipe

LENGTH, ROWS = 64, 8


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    folder = tmp_path_factory.mktemp("stream")
    crawl = make_crawl(folder / "crawl")
    recipe = load_recipe(str(write_recipe(folder, RECIPE + "\n[split]\nheldout = 1000\n")))
    globs = {"web": str(crawl / "*.warc.gz")}
    return build(recipe, Store.open(folder / "store"), make_engine(1), BuildOptions(globs))


def config(built: Built, **changes: object) -> DataConfig:
    corpora = [CorpusWeight(tokens=built.path("tokens"))]
    fields: dict[str, object] = {"corpora": corpora, "sequence_length": LENGTH, "global_batch": ROWS, "heldout": 0.1}
    return DataConfig.model_validate(fields | changes)


@pytest.fixture(scope="module")
def stream(built: Built) -> Stream:
    return open_stream(config(built), seed=7)


def same(left: Batch, right: Batch) -> bool:
    names = ("tokens", "targets", "positions", "documents", "num_bytes")
    return all(np.array_equal(getattr(left, name), getattr(right, name)) for name in names)


def test_any_step_can_be_asked_first(built: Built, stream: Stream) -> None:
    for step in (0, 3, 17, 1000):
        assert same(stream.batch(step), open_stream(config(built), seed=7).batch(step))


@pytest.mark.parametrize("world", [2, 4, 8])
def test_ranks_share_the_one_batch(stream: Stream, world: int) -> None:
    whole = stream.batch(5)
    shares = [stream.batch(5, rank, world) for rank in range(world)]
    assert np.array_equal(whole.tokens, np.concatenate([share.tokens for share in shares]))
    assert np.array_equal(whole.num_bytes, np.concatenate([share.num_bytes for share in shares]))


def test_a_batch_that_cannot_be_shared_is_refused(stream: Stream) -> None:
    with pytest.raises(InputError, match="global_batch is 8 at step 0, which 3 processes"):
        stream.batch(0, 0, 3)


def test_an_epoch_serves_every_token_once(built: Built, stream: Stream) -> None:
    import pyarrow.parquet as pq

    path = next(Path(built.path("tokens")).parent.glob("*.parquet"))
    rows = pq.read_table(path).to_pylist()
    expected: Counter[int] = Counter()
    for row in rows:
        if not is_heldout(row["split_key"], 1000):
            expected.update(np.frombuffer(row["tokens"], dtype="<u2").tolist())
            expected[stream.corpora[0].vocabulary.end_of_text] += 1
    total = sum(expected.values())
    num_rows = -(-total // LENGTH)
    served: Counter[int] = Counter()
    for sample in range(num_rows):
        batch = stream.batch(sample // ROWS).rows(slice(sample % ROWS, sample % ROWS + 1))
        served.update(batch.targets[batch.targets != IGNORE].tolist())
    assert served == expected


def test_epochs_are_permuted_differently(stream: Stream) -> None:
    steps = 200
    lines = [stream.batch(step).tokens.tobytes() for step in range(steps)]
    assert len(set(lines)) == steps


def test_targets_follow_inputs_within_documents(stream: Stream) -> None:
    batch = stream.batch(2)
    end = stream.corpora[0].vocabulary.end_of_text
    for row in range(len(batch)):
        inside = (batch.documents[row, 1:] == batch.documents[row, :-1]) & (batch.documents[row, 1:] >= 0)
        assert np.array_equal(batch.tokens[row, 1:][inside], batch.targets[row, :-1][inside])
        begins = ~inside & (batch.documents[row, 1:] >= 0)
        assert (batch.targets[row, :-1][begins] == end).all()
        assert (batch.positions[row, 1:][begins] == 0).all()


def test_num_bytes_are_those_of_the_texts(built: Built, stream: Stream) -> None:
    import pyarrow.parquet as pq

    path = next(Path(built.path("tokens")).parent.glob("*.parquet"))
    rows = pq.read_table(path, columns=["split_key", "num_bytes"]).to_pylist()
    expected = sum(row["num_bytes"] for row in rows if is_heldout(row["split_key"], 1000))
    assert sum(int(batch.num_bytes.sum()) for batch in stream.heldout()) == expected > 0


def test_batches_know_which_tokens_go_on_a_word(built: Built, stream: Stream) -> None:
    for batch in (stream.batch(2), stream.batch(1).rows(slice(3)), next(iter(stream.heldout()))):
        assert batch.token_joins is not None
        np.testing.assert_array_equal(batch.token_joins, stream.corpora[0].vocabulary.word_joins())
        hidden = make_objective("masked", {"unit": "word"}).ask(batch, 0).weights > 0
        before, here = batch.tokens[:, :-1], batch.tokens[:, 1:]
        joined = batch.token_joins[here, 0] & batch.token_joins[before, 1] & (batch.positions[:, 1:] > 1)
        assert joined.any()
        np.testing.assert_array_equal(hidden[:, 1:][joined], hidden[:, :-1][joined])


def test_held_out_documents_are_never_served(stream: Stream) -> None:
    table = stream.corpora[0].table("heldout")
    windows = [table.read(number) for number in range(len(table))]
    held = {window.doc_id(number) for window in windows for number in range(len(window.begins))}
    assert held
    for step in range(40):
        assert not held & {piece.doc_id for _, pieces in stream.pieces(step) for piece in pieces}


def test_trace_names_documents_and_bytes(stream: Stream) -> None:
    batch, traced = stream.batch(4), trace(stream, 4)
    assert sum(item.length for item in traced) == int((batch.documents >= 0).sum())
    for item in traced:
        assert item.url is not None
        assert item.url.startswith("https://")
        assert item.origin["length"] > 0
        begins = batch.positions[item.row, item.offset : item.offset + item.length]
        assert np.array_equal(begins, np.arange(item.length))


def test_the_plan_does_not_know_where_things_lie(built: Built, stream: Stream, tmp_path: Path) -> None:
    import shutil

    shutil.copytree(built.store.root, tmp_path / "moved")
    moved = str(tmp_path / "moved" / Path(built.path("tokens")).relative_to(built.store.root))
    other = open_stream(config(built, corpora=[CorpusWeight(tokens=moved)]), seed=7)
    assert other.plan.identity == stream.plan.identity
    assert other.state() == stream.state()
    assert open_stream(config(built), seed=8).plan.identity != stream.plan.identity


def test_only_tokens_can_be_streamed(built: Built) -> None:
    with pytest.raises(InputError, match="stage 'cut'"):
        open_stream(config(built, corpora=[CorpusWeight(tokens=built.path("corpus"))]), seed=0)


@given(st.integers(1, 3000), st.text(max_size=5), st.integers(0, 9))
def test_permutations_are_permutations(length: int, name: str, epoch: int) -> None:
    order = permutation(length, name, epoch)
    assert np.array_equal(np.sort(order), np.arange(length))
    assert np.array_equal(order, permutation(length, name, epoch))


def test_a_permutation_stays_what_it_is() -> None:
    assert permutation(10, "rows", 7, 0, 0, 0).tolist() == [9, 2, 4, 0, 1, 7, 3, 8, 5, 6]


@pytest.mark.parametrize(
    ("left", "right"),
    [
        ("http://www.Example.org/a/", "https://example.org/a"),
        ("https://example.org:443/a?b=1&a=2#top", "https://example.org/a?a=2&b=1"),
        ("http://me:secret@example.org:80", "//EXAMPLE.org/"),
        ("https://[2001:DB8::1]:443/x//", "http://[2001:db8::1]/x"),
    ],
)
def test_recrawls_share_their_split_key(left: str, right: str) -> None:
    assert canonical_url(left) == canonical_url(right)
    assert split_key(left, None, "0" * 32) == split_key(right, None, "f" * 32)


def test_what_is_no_url_is_its_own_canonical_form() -> None:
    assert [canonical_url(url) for url in ("urn:isbn:1", "a b", "", "file:///x")] == [
        "urn:isbn:1",
        "a b",
        "",
        "file:///x",
    ]
    assert canonical_url("https://example.org/A?q=X") == "example.org/A?q=X"


def test_chapters_share_the_split_key_of_their_work() -> None:
    assert split_key("https://a.org/1", "work", "0" * 32) == split_key("https://b.org/2", "work", "1" * 32)
