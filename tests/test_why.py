"""Why: every record's fate can be told, agrees with the tables, and leads back to bytes that say the same."""

import shutil
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.errors import InputError, IntegrityError, StoreError
from headrace.pipeline.hashing import digest_bytes
from headrace.pipeline.lock import Lock
from headrace.pipeline.origins import Origin, local_path
from headrace.pipeline.refetch import refetch
from headrace.pipeline.rows import find_rows, read_row, read_rows
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches
from headrace.pipeline.why import Fate, latest_lock, why
from tests.small_store import RECIPE, build_small, write_inputs


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_small(tmp_path_factory.mktemp("why"))


def only(built: Built, name: str) -> Fate:
    (fate,) = why(built.store, name)
    return fate


def rows_of(built: Built, role: str, table: str) -> list[dict[str, object]]:
    manifest = built.manifests[role]
    folder = built.store.artifact_folder(manifest.stage, manifest.key)
    return [row for part in manifest.parts for row in pq.read_table(folder / part.files[table].name).to_pylist()]


def test_every_record_has_one_fate_that_the_ledgers_know(built: Built) -> None:
    """Documents and other records, told one by one, add up to the ledgers' reasons."""
    names = {str(row["doc_id"]) for t in ("documents", "records") for row in rows_of(built, "documents", t)} - {"None"}
    fates = [fate for name in names for fate in why(built.store, name)]
    told = Counter((fate.step, fate.reason) for fate in fates if fate.outcome == "dropped")
    known: Counter[tuple[str, str]] = Counter()
    for step in built.lock.steps:
        ledger = Manifest.load(built.store.artifact_folder(step.stage, step.key) / "manifest.json").ledger
        known.update({(step.label, reason): tally.records for reason, tally in ledger.dropped.items()})
    del known["cut", "verdict"]  # told at the step that dropped them
    assert told == known
    assert sum(fate.outcome == "kept" for fate in fates) == built.corpus.rows


def test_a_kept_document_stands_where_it_says(built: Built) -> None:
    fate = only(built, "http://www.example.org/spelt")
    assert (fate.outcome, fate.reason, fate.step) == ("kept", None, "tokenize")
    assert fate.corpus
    assert fate.tokens
    assert read_row(Path(fate.corpus.path), fate.corpus.row)["doc_id"] == fate.doc_id
    tokens = read_row(Path(fate.tokens.path), fate.tokens.row)
    assert (tokens["doc_id"], tokens["num_tokens"]) == (fate.doc_id, fate.num_tokens)
    assert len(tokens["tokens"]) == 2 * tokens["num_tokens"]


def test_every_value_and_every_rule_is_told(built: Built) -> None:
    fate = only(built, "http://example.org/tiny")
    assert (fate.outcome, fate.step, fate.reason) == ("dropped", "rules quality", "short")
    assert fate.evidence == {"column": "gopher_quality.num_words", "min": 30.0, "value": 3}
    steps = {step.label: step for step in fate.steps}
    assert list(steps) == [step.label for step in built.lock.steps if step.stage in ("adopt", "measure", "rules")]
    judged = steps["rules quality"].judged
    assert [(item.value, item.applies, item.passed) for item in judged] == [
        (3, True, False),
        (3, True, True),
        (0, True, False),
    ]
    assert [item.allowed for item in judged] == [">= 30", "<= 100000", ">= 1"]
    failed = [(item.step, item.reason, item.column, item.value, item.limits) for item in fate.failed]
    assert failed == [
        ("rules quality", "short", "gopher_quality.num_words", 3, {"min": 30.0}),
        ("rules quality", "empty", "fineweb@c4.num_lines", 0, {"min": 1.0}),
    ]
    assert steps["minhash 4 verdicts"].kept is None
    signals = {item.column for label, step in steps.items() if label.startswith("measure") for item in step.measured}
    stored = {
        name for role in built.manifests if role.startswith("signals:") for name in rows_of(built, role, "signals")[0]
    }
    assert signals == stored - {"doc_id", "text_bytes"}


def test_a_rule_for_another_source_does_not_apply(built: Built) -> None:
    (note,) = [row for row in rows_of(built, "documents", "documents") if "quinoa" in str(row["text"])]
    rules = next(step for step in only(built, str(note["doc_id"])).steps if step.stage == "rules")
    assert [(item.applies, item.passed) for item in rules.judged] == [(True, True), (False, True), (True, True)]


def test_spans_show_what_they_cover(built: Built) -> None:
    fate = only(built, "http://www.example.org/wheat")
    measured = {item.column: item for step in fate.steps for item in step.measured}
    (redaction,) = measured["pii@c4.redactions"].spans
    assert (redaction.text, redaction.label) == ("wheat@example.org", "email")
    assert redaction.replacement
    removed = measured["c4.removed"].spans
    assert measured["c4.removed"].value == len(removed)
    assert removed[0].text.startswith("About wheat")


def test_duplicates_name_their_survivor(built: Built) -> None:
    fate = only(built, "http://mirror.example.net/rye")
    assert (fate.step, fate.reason) == ("minhash 4 verdicts", "near_duplicate")
    assert fate.evidence
    assert 0.5 < fate.evidence["estimated_jaccard"] < 1
    assert fate.survivor == only(built, "http://www.example.org/rye").doc_id
    survivor, copy = why(built.store, "http://www.example.org/oat")
    assert survivor.doc_id == copy.doc_id
    assert (survivor.outcome, copy.outcome, copy.reason, copy.survivor) == (
        "kept",
        "dropped",
        "same_record",
        survivor.doc_id,
    )
    assert copy.corpus is None


def test_urls_are_found_exactly_else_in_canonical_form(built: Built) -> None:
    assert [fate.url for fate in why(built.store, "http://example.org/barley")] == ["http://example.org/barley"]
    both = ["http://www.example.org/barley", "http://example.org/barley"]
    assert [fate.url for fate in why(built.store, "https://example.org/barley/")] == both


def test_what_was_no_document_is_told_too(built: Built) -> None:
    gone = only(built, "http://example.org/gone")
    assert (gone.kind, gone.outcome, gone.reason, gone.evidence) == (
        "response",
        "dropped",
        "http_status",
        {"status": 404},
    )
    assert gone.steps == ()


def test_an_unknown_name_is_refused(built: Built, tmp_path: Path) -> None:
    for name in ("http://example.org/nowhere", "0" * 32, "barley"):
        with pytest.raises(InputError, match="read no record"):
            why(built.store, name)
    with pytest.raises(StoreError, match="no build has finished"):
        why(Store.open(tmp_path / "empty"), "x")


def test_the_last_build_is_meant_unless_a_lock_is_given(tmp_path: Path) -> None:
    first = build_small(tmp_path)
    name = "http://example.org/tiny"
    lenient = RECIPE.replace('name = "small"', 'name = "lenient"').replace("min = 30", "min = 2")
    second = build_small(tmp_path, lenient)
    assert latest_lock(first.store) == second.lock
    assert why(first.store, name)[0].reason == "empty"
    assert why(first.store, name, Lock.load(first.lock_path))[0].reason == "short"


def test_a_document_that_nothing_is_left_of(tmp_path: Path) -> None:
    """Without the rules, a text of short lines loses all of them to C4."""
    rules = RECIPE[RECIPE.index('[[steps]]\nkind = "rules"') : RECIPE.index('[[steps]]\nkind = "minhash"')]
    built = build_small(tmp_path, RECIPE.replace(rules, ""))
    fate = only(built, "http://example.org/tiny")
    assert (fate.outcome, fate.step, fate.reason) == ("dropped", "cut", "nothing_left")


# --------------------------------------------------------------------------------------------------------- refetch


def test_every_record_reads_and_extracts_the_same(built: Built) -> None:
    names = {str(row["doc_id"]) for t in ("documents", "records") for row in rows_of(built, "documents", t)} - {"None"}
    for fate in (fate for name in names for fate in why(built.store, name)):
        again = refetch(built.store, fate)
        assert again.same is True
        assert again.passed_over == ()
        assert (again.origin, again.text is None) == (fate.origin, fate.kind != "document")
        path = local_path(fate.origin.uri)
        assert path
        end = fate.origin.offset + fate.origin.length
        assert digest_bytes(path.read_bytes()[fate.origin.offset : end]) == fate.origin.digest


def test_a_file_that_moved_is_found_where_a_build_saw_it(tmp_path: Path) -> None:
    built = build_small(tmp_path)
    fate = only(built, "http://www.example.org/rye")
    (tmp_path / "inputs").rename(tmp_path / "moved")
    with pytest.raises(IntegrityError, match=r"lie nowhere any more.*crawl\.warc\.gz: No such file"):
        refetch(built.store, fate)
    build_small_from(tmp_path / "moved", built.store)
    again = refetch(built.store, fate)
    assert again.same
    assert "moved" in again.origin.uri
    assert len(again.passed_over) == 1


def build_small_from(inputs: Path, store: Store) -> Built:
    from headrace.pipeline.build import build
    from headrace.pipeline.engines import InlineEngine
    from tests.small_store import options, small_recipe

    return build(small_recipe(), store, InlineEngine(), options(inputs))


def test_a_record_is_found_in_another_file(tmp_path: Path) -> None:
    """The file changed, but another build read the same record from another place."""
    built = build_small(tmp_path)
    fate = only(built, "http://www.example.org/rye")
    shutil.copytree(tmp_path / "inputs", tmp_path / "other")
    other = tmp_path / "other" / "crawl.warc.gz"
    other.write_bytes(other.read_bytes()[: fate.origin.offset + fate.origin.length])
    build_small_from(tmp_path / "other", built.store)
    (tmp_path / "inputs" / "crawl.warc.gz").write_bytes(b"something else")
    again = refetch(built.store, fate)
    assert again.same
    assert again.origin.uri == other.as_uri()
    assert "the file has changed" in again.passed_over[0]


def test_a_file_that_changed_is_not_believed(tmp_path: Path) -> None:
    built = build_small(tmp_path)
    fate = only(built, "http://www.example.org/rye")
    path = tmp_path / "inputs" / "crawl.warc.gz"
    data = bytearray(path.read_bytes())
    data[fate.origin.offset + 20] ^= 1
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match="the file has changed"):
        refetch(built.store, fate)
    assert refetch(built.store, only(built, "http://www.example.org/barley")).same


def test_what_was_not_extracted_cannot_differ(tmp_path: Path) -> None:
    built = build_small(tmp_path, limit=3)
    fate = only(built, "http://www.example.org/maize")
    assert (fate.outcome, fate.reason) == ("dropped", "beyond_limit")
    again = refetch(built.store, fate)
    assert again.same is None
    assert again.text


def test_a_gap_is_read_again_by_its_bytes(built: Built) -> None:
    (row,) = [row for row in rows_of(built, "documents", "records") if row["fate"] == "gap"]
    tiny = only(built, "http://example.org/tiny")
    gap = Fate(
        **{
            **vars(tiny),
            "doc_id": None,
            "kind": "gap",
            "outcome": "gap",
            "origin": Origin.of(row["origin"]),  # type: ignore[arg-type] # a struct is a dict
        }
    )
    assert refetch(built.store, gap).kind == "gap"


# ------------------------------------------------------------------------------------------------------------ rows


def test_rows_are_found_and_read_across_row_groups(tmp_path: Path) -> None:
    import pyarrow as pa

    path = tmp_path / "t.parquet"
    table = pa.table({"a": [f"{n:02d}" for n in range(50)], "b": list(range(50))})
    pq.write_table(table, path, row_group_size=7, write_page_checksum=True)
    assert find_rows(path, "a", "33") == [33]
    assert find_rows(path, "a", "zz") == []
    assert find_rows(path, "b", 7) == [7]
    assert [row["b"] for row in read_rows(path, [0, 6, 7, 49])] == [0, 6, 7, 49]
    assert read_row(path, 20, ["a"]) == {"a": "20"}
    with pytest.raises(IndexError, match="has 50 rows"):
        read_row(path, 50)
    assert sum(batch.num_rows for batch in read_batches(path)) == 50


def test_places_that_are_not_local() -> None:
    assert local_path("file:///a/b%20c.gz") == Path("/a/b c.gz")
    assert local_path("s3://bucket/key") is None


def test_inputs_are_always_the_same_bytes(tmp_path: Path) -> None:
    one, two = (write_inputs(tmp_path / name) for name in "ab")
    assert (one / "crawl.warc.gz").read_bytes() == (two / "crawl.warc.gz").read_bytes()
