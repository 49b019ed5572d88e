"""Verdicts: every failing rule of a document is noted, the first drops it, and ledgers count what tables say."""

from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.errors import IntegrityError
from headrace.pipeline.rule_values import RuleValues
from headrace.pipeline.schema import VERDICTS, Ledger, Manifest, Tally
from headrace.pipeline.stages.judge import read_aligned, verdict_ledger
from headrace.pipeline.tables import read_columns, write_table
from tests.small_store import build_small


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_small(tmp_path_factory.mktemp("verdicts"))


def artifact(built: Built, label: str) -> Manifest:
    step = built.lock.step(label)
    assert step
    return Manifest.load(built.store.artifact_folder(step.stage, step.key) / "manifest.json")


def rows_of(built: Built, manifest: Manifest) -> list[dict[str, Any]]:
    parts = range(len(manifest.parts))
    return [row for part in parts for row in read_columns(built.store.part_path(manifest, part)).to_pylist()]


def test_every_failing_rule_is_noted_and_the_first_drops(built: Built) -> None:
    manifest = artifact(built, "rules quality")
    rows = rows_of(built, manifest)
    reasons = [rule["reason"] for rule in manifest.config["rules"]]
    assert {None if row["failed"] is None else tuple(row["failed"]) for row in rows} == {None, (), (0, 2)}
    for row in rows:
        if row["failed"]:
            assert (row["kept"], row["reason"]) == (False, reasons[row["failed"][0]])
        else:
            assert (row["kept"], row["reason"]) == (None if row["failed"] is None else True, None)
        assert row["evidence"] is None


def test_other_steps_ask_no_rules(built: Built) -> None:
    for label in ("distinct verdicts", "minhash 4 verdicts"):
        assert {row["failed"] is None for row in rows_of(built, artifact(built, label))} == {True}


def test_values_and_bounds_are_found_again(built: Built) -> None:
    manifest = artifact(built, "rules quality")
    values = RuleValues(manifest, built.store)
    told = [
        (one.reason, one.column, one.value, one.limits)
        for part in range(len(manifest.parts))
        for row, verdict in enumerate(read_columns(built.store.part_path(manifest, part)).to_pylist())
        for one in values.failed(part, row, verdict["failed"] or ())
    ]
    assert told == [
        ("short", "gopher_quality.num_words", 3, {"min": 30.0}),
        ("empty", "fineweb@c4.num_lines", 0, {"min": 1.0}),
    ]


@pytest.mark.parametrize("label", ["distinct verdicts", "rules quality", "minhash 4 verdicts"])
def test_ledgers_count_what_tables_say(built: Built, label: str) -> None:
    manifest = artifact(built, label)
    rows = rows_of(built, manifest)
    counted = Counter((row["kept"], row["reason"]) for row in rows)
    ledger = manifest.ledger
    assert ledger.kept.records == counted[True, None]
    assert ledger.passed.records == counted[None, None]
    assert {reason: tally.records for reason, tally in ledger.dropped.items()} == {
        reason: count for (kept, reason), count in counted.items() if kept is False
    }
    assert ledger.input == Tally(records=len(rows), bytes=sum(row["text_bytes"] for row in rows))


def test_a_ledger_of_nothing() -> None:
    assert verdict_ledger(VERDICTS.empty_table()) == Ledger()


def test_side_tables_of_other_documents_are_refused(tmp_path: Path) -> None:
    schema = pa.schema([("doc_id", pa.string()), ("s.x", pa.int64())])
    ids: Mapping[str, list[str]] = {"same": ["a", "b"], "other": ["a", "c"], "short": ["a"]}
    for name, found in ids.items():
        batch = pa.RecordBatch.from_pydict({"doc_id": found, "s.x": [0] * len(found)}, schema)
        write_table(tmp_path / name, schema, [batch], {})
    expected = pa.chunked_array([["a"], ["b"]])
    assert read_aligned(tmp_path / "same", ["s.x"], expected)["s.x"].to_pylist() == [0, 0]
    with pytest.raises(IntegrityError, match="other: row 1 is document c, the documents have b there"):
        read_aligned(tmp_path / "other", ["s.x"], expected)
    with pytest.raises(IntegrityError, match="short: 1 rows stand beside 2 documents"):
        read_aligned(tmp_path / "short", ["s.x"], expected)
