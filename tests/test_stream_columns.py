"""What stands beside tokens reaches the batches: labels, ids and texts for each piece, and whole documents."""

import json
import re
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from headrace.pipeline.errors import InputError, RecipeError
from headrace.trainer.batch import IGNORE
from headrace.trainer.coverage import check_coverage
from headrace.trainer.exports.documents import export_tokens
from headrace.trainer.iterate import Batches
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.train import train
from tests.commands import headrace
from tests.making import RUN_FILE, make_crawl, write_recipe

METADATA = '{ words = "gopher_quality.num_words", mean = "gopher_quality.mean_word_length" }'
STEPS = """
[[steps]]
kind = "measure"
signals = ["gopher_quality"]

[[steps]]
kind = "cut"
metadata = METADATA

[[steps]]
kind = "tokenize"
vocab_size = 600
text = TEXT

[split]
heldout = 1000
"""
HEAD = """
schema_version = 1
name = "beside"

[[sources]]
name = "web"
reader = "warc"
extractor = "trafilatura"
"""
NAMES = ["doc_id", "url", "num_tokens", "metadata.words", "text", "metadata"]


def make(folder: Path, text: str = "true") -> Any:
    folder.mkdir(exist_ok=True)
    crawl = make_crawl(folder / "crawl")
    recipe = write_recipe(folder, HEAD + STEPS.replace("TEXT", text).replace("METADATA", METADATA))
    ran = headrace("build", recipe, "--store", folder / "store", "--source", f"web={crawl}/*.warc.gz", "--json")
    assert ran.status == 0, ran.err
    return ran.json


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return make(tmp_path_factory.mktemp("beside"))


@pytest.fixture(scope="module")
def documents(built: Any) -> Mapping[str, Any]:
    """The rows of the corpus by id."""
    rows = {row["doc_id"]: row for row in rows_of(built["manifest"])}
    for row in rows_of(built["tokens_manifest"]):
        rows[row["doc_id"]]["num_tokens"] = row["num_tokens"]
    return rows


def rows_of(manifest: str) -> list[Any]:
    return [row for path in Path(manifest).parent.glob("*.parquet") for row in pq.read_table(path).to_pylist()]


def config(built: Any, **changes: Any) -> DataConfig:
    fields = {"corpora": [{"tokens": built["tokens_manifest"]}], "sequence_length": 64, "global_batch": 8}
    return DataConfig.model_validate({**fields, "heldout": 0.1, "packing": "best_fit", "columns": NAMES, **changes})


def expected(documents: Mapping[str, Any], doc_id: str, name: str) -> Any:
    row = documents[doc_id]
    return json.loads(row["metadata"])["words"] if name == "metadata.words" else row[name]


# ------------------------------------------------------------------------------------------------------------- recipe


def test_signals_become_metadata(built: Any, documents: Mapping[str, Any]) -> None:
    store = Path(built["manifest"]).parents[3]
    columns = ("gopher_quality.num_words", "gopher_quality.mean_word_length")
    tables = [pq.read_table(path).to_pylist() for path in store.glob("artifacts/measure/*/signals-*.parquet")]
    measured = {row["doc_id"]: tuple(row[name] for name in columns) for table in tables for row in table}
    assert all(None not in values for values in measured.values())
    for row in documents.values():
        metadata = json.loads(row["metadata"])
        assert (metadata["words"], metadata["mean"]) == measured[row["doc_id"]]
        assert "title" in metadata
        assert row["metadata"] == json.dumps(metadata, sort_keys=True, ensure_ascii=False, separators=(",", ":"))


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ('{ q = "gopher_quality.num_wrds" }', r"no column 'gopher_quality.num_wrds' .did you mean"),
        ('{ q = "edu.score" }', r"a step reads signal 'edu', which no step before it measures"),
        ('{ q = "num_words" }', r"column 'num_words' names no signal; write it as in"),
        ('{ parent = "gopher_quality.num_words" }', r"'parent' says which work"),
        ('{ "a b" = "gopher_quality.num_words" }', r"metadata"),
    ],
)
def test_what_cannot_be_metadata_is_refused_before_anything_is_read(tmp_path: Path, metadata: str, words: str) -> None:
    steps = STEPS.replace("TEXT", "false").replace("METADATA", metadata)
    ran = headrace("build", write_recipe(tmp_path, HEAD + steps), "--store", tmp_path / "store", "--source", "web=none")
    assert ran.status != 0
    assert re.search(words, " ".join(ran.err.split())), ran.err
    assert not (tmp_path / "store" / "tasks").exists()


# ------------------------------------------------------------------------------------------------------------ columns


@pytest.mark.parametrize("changes", [{"packing": "concat"}, {"packing": "best_fit"}, {"packing": "pad"}], ids=str)
def test_each_piece_has_the_columns_of_its_document(
    built: Any, documents: Mapping[str, Any], changes: dict[str, Any]
) -> None:
    stream = open_stream(config(built, **changes), 3)
    bare = open_stream(config(built, columns=[], **changes), 3)
    assert stream.plan.identity == bare.plan.identity
    for step in range(12):
        batch = stream.batch(step)
        assert np.array_equal(batch.tokens, bare.batch(step).tokens)
        assert not bare.batch(step).columns
        for row, (_, pieces) in enumerate(stream.pieces(step)):
            for name in NAMES:
                assert batch.columns[name][row] == [expected(documents, p.doc_id, name) for p in pieces]
            assert batch.documents[row].max() == len(pieces) - 1


@pytest.mark.parametrize("packing", ["concat", "best_fit", "pad"])
@pytest.mark.parametrize("prefix", [None, {"template": "{url}\n", "until_step": 3}], ids=["plain", "prefix"])
def test_cut_rows_of_two_corpora_are_what_a_walk_over_pieces_gives(
    built: Any, documents: Mapping[str, Any], packing: str, prefix: Any
) -> None:
    corpora = [{"tokens": built["tokens_manifest"], "weight": weight} for weight in (1, 2)]
    changes = {"corpora": corpora, "packing": packing, "lengths": [{"from_step": 2, "length": 16}]}
    stream = open_stream(config(built, prefix=prefix, **changes), 5)
    vocabulary = stream.corpora[0].vocabulary
    for step in range(6):
        length, bare = stream.plan.length(step), stream.plan.without_prefix(step)
        rows: list[list[str]] = []
        for _, pieces in stream.pieces(step):
            for start in range(0, 64, length):
                rows.append([])
                for piece in pieces:
                    begin = piece.offset
                    if bare:
                        told = vocabulary.encode_batch([documents[piece.doc_id]["url"] + "\n"])[0]
                        begin += min(piece.length, max(0, len(told) - piece.start))
                    inside = min(piece.offset + piece.length, start + length) > max(begin, start)
                    if inside or length == 64:
                        rows[-1].append(piece.doc_id)
        batch = stream.batch(step)
        for name in NAMES:
            assert batch.columns[name] == [[expected(documents, doc_id, name) for doc_id in row] for row in rows]


@pytest.mark.parametrize("masks", ["documents", "none"])
@pytest.mark.parametrize("prefix", [None, {"template": "{url}\n", "until_step": 4}])
def test_cut_rows_have_the_columns_of_what_reaches_into_them(built: Any, prefix: Any, masks: str) -> None:
    names = ["doc_id"]
    changes = {"columns": names, "prefix": prefix, "masks": masks}
    stream = open_stream(config(built, lengths=[{"from_step": 2, "length": 16}], **changes), 3)
    apart = open_stream(config(built, lengths=[{"from_step": 2, "length": 16}], columns=names, prefix=prefix), 3)
    for step in range(2, 10):
        batch, told = stream.batch(step), apart.batch(step)
        assert len(batch.columns["doc_id"]) == len(batch.tokens) == 32
        assert batch.columns == told.columns
        for row, values in enumerate(told.columns["doc_id"]):
            assert len(values) == told.documents[row].max() + 1


def test_ranks_states_and_selections_have_their_columns(built: Any) -> None:
    stream = open_stream(config(built), 3)
    whole = stream.batch(5)
    shares = [open_stream(config(built), 3).batch(5, rank, 2) for rank in range(2)]
    for name in NAMES:
        assert [row for share in shares for row in share.columns[name]] == whole.columns[name]
        assert whole.rows(slice(2, 4)).columns[name] == whole.columns[name][2:4]
    first = Batches(config(built, columns=[]), 3)
    batches = iter(first)
    [next(batches) for _ in range(5)]
    second = Batches(config(built), 3).load_state_dict(first.state_dict())
    assert next(iter(second)).columns == whole.columns


def test_heldout_rows_have_columns(built: Any, documents: Mapping[str, Any]) -> None:
    stream = open_stream(config(built), 3)
    seen = 0
    for batch in stream.heldout():
        for row in range(len(batch)):
            ids = batch.columns["doc_id"][row]
            seen += len(ids)
            assert batch.columns["text"][row] == [documents[doc_id]["text"] for doc_id in ids]
    assert seen


def test_the_first_heldout_batches_are_of_all_corpora(built: Any) -> None:
    corpora = [{"tokens": built["tokens_manifest"], "weight": weight} for weight in (1, 5)]
    both = open_stream(config(built, corpora=corpora, columns=[], global_batch=4), 3)
    batches = list(both.heldout())
    assert [int(batch.sources[0]) for batch in batches] == [0, 1] * (len(batches) // 2)
    alone = [batch.tokens.tobytes() for batch in open_stream(config(built, columns=[], global_batch=4), 3).heldout()]
    for number in range(2):
        assert [batch.tokens.tobytes() for batch in batches if batch.sources[0] == number] == alone


def test_what_was_taken_down_has_no_values(tmp_path: Path) -> None:
    built = make(tmp_path)
    before = open_stream(config(built), 3)
    gone = before.pieces(1)[0][1][0].doc_id
    assert headrace("takedown", built["manifest"], "--doc", gone, "--reason", "asked").status == 0
    after = open_stream(config(built), 3)
    old, new = before.batch(1).columns["doc_id"], after.batch(1).columns["doc_id"]
    assert new == [[None if doc_id == gone else doc_id for doc_id in row] for row in old]
    assert [text for row in after.batch(1).columns["text"] for text in row if text is None][:1] == [None] * 1


def test_torch_has_them_too(built: Any) -> None:
    from headrace.trainer.dataset import Stream as Dataset

    batch = next(iter(Dataset(config(built), 3)))
    assert batch["columns"] == dict(open_stream(config(built), 3).batch(0).columns)
    assert "columns" not in next(iter(Dataset(config(built, columns=[]), 3)))


def test_columns_that_are_not_there_are_refused(built: Any, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match=r"no 'urls' is beside tokens; there are doc_id, num_t"):
        config(built, columns=["urls"])
    without = make(tmp_path, text="false")
    with pytest.raises(InputError, match="set text = true in the recipe's step of kind 'tokenize'"):
        open_stream(config(without), 0)
    assert open_stream(config(without, columns=["metadata.none"]), 0).batch(0).columns["metadata.none"][0][0] is None


# ---------------------------------------------------------------------------------------------------- whole documents


def whole(built: Any, **changes: Any) -> Stream:
    fields: dict[str, Any] = {"corpora": [{"tokens": built["tokens_manifest"]}], "global_batch": 4}
    fields |= {"packing": "document", "heldout": 0.1, "columns": ["doc_id", "text"]}
    return open_stream(DataConfig.model_validate({**fields, **changes}), 3)


def test_documents_are_served_whole_and_once_an_epoch(built: Any, documents: Mapping[str, Any]) -> None:
    stream = whole(built)
    rows = stream.sources[0].num_rows
    counts: Counter[str] = Counter()
    step = 0
    while sum(counts.values()) < rows - rows % 4:
        batch = stream.batch(step)
        assert batch.tokens.shape == (4, 0)
        for (doc_id,), (text,) in zip(batch.columns["doc_id"], batch.columns["text"], strict=True):
            assert text == documents[doc_id]["text"]
            counts[doc_id] += 1
        step += 1
    assert set(counts.values()) == {1}
    held = [text for batch in stream.heldout() for (text,) in batch.columns["text"]]
    assert len(held) + rows == len(documents)
    (found,) = check_coverage(stream, 7)
    assert (found.padded, found.split, found.servings) == (0, 0, rows)


def test_whole_documents_are_mixed_by_their_tokens(built: Any) -> None:
    corpora = [{"tokens": built["tokens_manifest"], "weight": weight} for weight in (3, 1)]
    stream = whole(built, corpora=corpora, columns=["num_tokens"])
    counts = np.zeros(2)
    for step in range(600):
        batch = stream.batch(step)
        np.add.at(counts, batch.sources, [value + 1 for (value,) in batch.columns["num_tokens"]])
    assert abs(counts[0] / counts.sum() - 0.75) < 0.005


def test_whole_documents_read_no_tokens(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.trainer.streaming.parts import LocalParts

    asked: set[str] = set()
    read = LocalParts.read

    def noted(self: LocalParts, part: int, groups: Any, columns: Any) -> Any:
        asked.update(columns)
        return read(self, part, groups, columns)

    monkeypatch.setattr(LocalParts, "read", noted)
    whole(built).batch(0)
    assert "text" in asked
    assert "tokens" not in asked


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"columns": []}, "serves columns in place of tokens"),
        ({"prefix": {"template": "{url}"}}, "prefix: documents are served whole"),
        ({"sequence_length": 64}, "sequence_length: documents are served whole"),
        ({"masks": "none"}, "masks: with packing = 'document' rows have no positions"),
        ({"sequence_length": 4, "lengths": [{"from_step": 1, "length": 2}]}, "lengths: documents are served whole"),
    ],
)
def test_what_whole_documents_cannot_have(built: Any, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        whole(built, **changes)


def test_whole_documents_are_not_trained_on(built: Any, tmp_path: Path) -> None:
    from headrace.trainer.run_config import parse_run

    run = parse_run(RUN_FILE.format(tokens=built["tokens_manifest"]))
    data = DataConfig.model_validate(
        {**run.data.model_dump(), "packing": "document", "columns": ["text"], "sequence_length": 1}
    )
    run = run.model_copy(update={"data": data})
    with pytest.raises(RecipeError, match="serves no tokens"):
        train(run, open_stream(run.data, 0), tmp_path / "run")
    with pytest.raises(InputError, match="exports are tokens"):
        export_tokens(whole(built), "megatron", tmp_path / "exported")
    assert not (tmp_path / "exported").exists()


# ----------------------------------------------------------------------------------------------------------- prefixes


def test_prefixes_from_metadata_and_buckets(built: Any, documents: Mapping[str, Any]) -> None:
    words = sorted(json.loads(row["metadata"])["words"] for row in documents.values())
    edges = [words[len(words) // 3], words[2 * len(words) // 3]]
    prefix = {"template": "{metadata.words}|{bucket.words}\n", "buckets": {"words": edges}}
    stream = open_stream(config(built, prefix=prefix, columns=["doc_id"], packing="pad", sequence_length=512), 3)
    vocabulary = stream.corpora[0].vocabulary
    seen: Counter[int] = Counter()
    for step in range(6):
        batch = stream.batch(step)
        for row, (doc_id,) in enumerate(batch.columns["doc_id"]):
            if batch.tokens[row][0] != vocabulary.end_of_text:
                continue
            number = json.loads(documents[doc_id]["metadata"])["words"]
            bucket = sum(number >= edge for edge in edges)
            seen[bucket] += 1
            told = f"{number}|{bucket}\n"
            assert vocabulary.decode(batch.tokens[row][:64].tolist()).startswith(told)
            assert (batch.targets[row][: len(vocabulary.encode_batch([told])[0])] == IGNORE).all()
    assert set(seen) == {0, 1, 2}
    check_coverage(stream, 5)


def test_plans_with_other_prefixes_of_the_same_lengths_are_others(built: Any, documents: Mapping[str, Any]) -> None:
    """The index counts positions alone, so its content cannot tell them apart."""
    words = sorted(json.loads(row["metadata"])["words"] for row in documents.values())
    prefixes = [{"template": "{bucket.words}", "buckets": {"words": [words[len(words) * k // 3]]}} for k in (1, 2)]
    left, right = (open_stream(config(built, prefix=prefix), 3) for prefix in prefixes)
    assert left.plan.corpora[0].index == right.plan.corpora[0].index
    assert not all(np.array_equal(left.batch(step).tokens, right.batch(step).tokens) for step in range(5))
    assert left.plan.identity != right.plan.identity
    with pytest.raises(RecipeError, match="the state is of another plan: prefix is"):
        right.restore(left.state_dict(8))
    assert len(json.dumps(left.state_dict(8))) < 1024
    assert "prefix" not in open_stream(config(built), 3).plan.resolved()


def test_tokens_that_are_too_old_to_have_metadata_are_told(built: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from headrace.trainer.streaming import corpus

    def old(manifest: Any, role: str, store: Any) -> Any:
        found = real(manifest, role, store)
        return found.model_copy(update={"config": {}}) if role == "encoded" else found

    real = corpus.upstream
    monkeypatch.setattr(corpus, "upstream", old)
    for changes in ({"columns": ["metadata.words"]}, {"columns": [], "prefix": {"template": "{metadata.words}"}}):
        with pytest.raises(InputError, match="made before metadata stood beside them; build them again"):
            open_stream(config(built, **changes), 3)
    assert open_stream(config(built, columns=["url"]), 3).batch(0).columns["url"]


def test_a_document_without_the_field_has_no_prefix(built: Any) -> None:
    with_prefix = open_stream(config(built, prefix={"template": "{metadata.language}\n"}), 3)
    without = open_stream(config(built), 3)
    assert np.array_equal(with_prefix.batch(3).tokens, without.batch(3).tokens)


@pytest.mark.parametrize(
    ("prefix", "words"),
    [
        ({"template": "{bucket.words}"}, "buckets has no edges for 'words'"),
        ({"template": "{bucket.words}", "buckets": {"words": [3, 1]}}, "must ascend"),
        ({"template": "{bucket.words}", "buckets": {"words": []}}, "must ascend"),
        ({"template": "{metadata}"}, "is no field of a prefix"),
    ],
)
def test_prefixes_that_cannot_be(built: Any, prefix: dict[str, Any], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        config(built, prefix=prefix)
