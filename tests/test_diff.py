"""Diff: what one corpus has alone is what the other's steps say they dropped; texts are compared where edits differ."""

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from headrace.pipeline.build import Built
from headrace.pipeline.diff import Difference, Side, diff
from headrace.pipeline.errors import InputError, StoreError
from headrace.pipeline.fates import ID, as_ids, part_of, positions
from headrace.pipeline.why import why
from tests.commands import headrace
from tests.small_store import RECIPE, build_small

STRICT = RECIPE.replace("min = 30", "min = 130")
"""Drops the two notes of 127 words, too."""

EDITED = RECIPE.replace('edits = ["c4.removed", "pii@c4.redactions"]', 'edits = ["c4.removed"]')
MINHASH, CUT = (RECIPE.index(f'[[steps]]\nkind = "{kind}"') for kind in ("minhash", "cut"))
NOT_DEDUPLICATED = RECIPE[:MINHASH] + RECIPE[CUT:]
NO_RULES = RECIPE[: RECIPE.index('[[steps]]\nkind = "rules"')] + RECIPE[MINHASH:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("diff")


@pytest.fixture(scope="module")
def usual(folder: Path) -> Built:
    return build_small(folder)


def compared(a: Built, b: Built, num_samples: int = 100) -> Difference:
    return diff(Path(a.path("corpus")), Path(b.path("corpus")), num_samples)


def ids_of(built: Built) -> set[str]:
    folder = Path(built.path("corpus")).parent
    return {doc_id for path in folder.glob("*.parquet") for doc_id in pq.read_table(path)["doc_id"].to_pylist()}


def reasons(side: Side) -> dict[tuple[str, str], int]:
    return {(one.step, one.reason): one.documents for one in side.reasons}


def told(side: Side) -> set[str]:
    return {one.doc_id for reason in side.reasons for one in reason.samples}


def check(found: Difference, a: Built, b: Built) -> None:
    """Check what holds of any two corpora."""
    ids = ids_of(a), ids_of(b)
    assert (found.a.documents, found.b.documents, found.both) == (len(ids[0]), len(ids[1]), len(ids[0] & ids[1]))
    assert found.same_text + found.other_text == found.both
    assert (told(found.a), told(found.b)) == (ids[0] - ids[1], ids[1] - ids[0])
    for side in (found.a, found.b):
        assert sum(one.documents for one in side.reasons) == side.alone
    assert (found.a.alone, found.b.alone) == (len(ids[0] - ids[1]), len(ids[1] - ids[0]))


def test_a_corpus_differs_from_itself_in_nothing(usual: Built) -> None:
    found = compared(usual, usual)
    check(found, usual, usual)
    assert (found.a.alone, found.b.alone, found.other_text) == (0, 0, 0)


def test_a_stricter_rule_is_named_with_value_and_threshold(folder: Path, usual: Built) -> None:
    strict = build_small(folder, STRICT)
    found = compared(usual, strict)
    check(found, usual, strict)
    assert reasons(found.a) == {("rules quality", "short"): 2}
    assert reasons(found.b) == {}
    for left in found.a.reasons[0].samples:
        (failed,) = left.failed
        assert (failed.reason, failed.value, failed.limits) == ("short", 127, {"min": 130.0})
        (fate,) = why(strict.store, left.doc_id, strict.lock)
        assert fate.failed == left.failed
    back = compared(strict, usual)
    assert (back.a, back.b) == (found.b, found.a)


def test_near_duplicates_name_who_stayed(folder: Path, usual: Built) -> None:
    every = build_small(folder, NOT_DEDUPLICATED)
    found = compared(every, usual)
    check(found, every, usual)
    assert reasons(found.a) == {("minhash 4 verdicts", "near_duplicate"): 2}
    for left in found.a.reasons[0].samples:
        assert left.survivor in ids_of(usual)
        assert left.evidence
        assert left.evidence["estimated_jaccard"] > 0.5


def test_other_edits_are_other_texts(folder: Path, usual: Built) -> None:
    edited = build_small(folder, EDITED)
    found = compared(usual, edited)
    check(found, usual, edited)
    assert found.other_text == found.both == len(ids_of(usual))
    one = found.samples[0]
    assert one.text_b.startswith(("barley@", "oat@", "rye@", "wheat@", "spelt@", "maize@", "millet@", "quinoa@"))
    assert one.text_a != one.text_b
    assert [one.doc_id for one in found.samples] == sorted(ids_of(usual))


def test_texts_that_come_out_the_same_are_told_apart_from_others(folder: Path, usual: Built) -> None:
    """Edits of another name that change nothing: texts are read and found equal."""
    named = build_small(folder, EDITED.replace('edits = ["c4.removed"]', 'edits = ["pii@c4.redactions", "c4.removed"]'))
    found = compared(usual, named)
    check(found, usual, named)
    assert (found.same_text, found.other_text, found.samples) == (found.both, 0, ())


def test_text_is_not_read_where_the_edits_are_the_same(
    folder: Path, usual: Built, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(way: object) -> None:
        raise AssertionError("text was read")

    monkeypatch.setattr("headrace.pipeline.diff._texts", refuse)
    assert compared(usual, build_small(folder, STRICT)).other_text == 0


def test_what_was_never_read_or_became_no_document(folder: Path, usual: Built, tmp_path: Path) -> None:
    few = build_small(tmp_path, limit=4)
    found = compared(usual, few)
    check(found, usual, few)
    assert set(reasons(found.a)) == {("read", "beyond_limit"), ("read", "not_in_the_input")}
    sampled = build_small(tmp_path / "sampled", sample=0.5)
    found = compared(usual, sampled)
    check(found, usual, sampled)
    assert ("read", "not_sampled") in reasons(found.a)


def test_what_nothing_is_left_of(folder: Path, usual: Built) -> None:
    """Without C4's edit the short page stays; with it, and without rules, nothing of it is left."""
    emptied = build_small(folder, NO_RULES)
    whole = build_small(folder, NO_RULES.replace('edits = ["c4.removed", "pii@c4.redactions"]', "edits = []"))
    found = compared(whole, emptied)
    check(found, whole, emptied)
    assert reasons(found.a) == {("cut", "nothing_left"): 1}
    assert [left.url for left in found.a.reasons[0].samples] == ["http://example.org/tiny"]
    assert {one.reason for one in compared(whole, usual).a.reasons} == {"short"}


@pytest.mark.parametrize("count", [0, 1])
def test_as_many_samples_as_were_asked_for(folder: Path, usual: Built, count: int) -> None:
    found = compared(usual, build_small(folder, STRICT), count)
    assert [len(one.samples) for one in found.a.reasons] == [count]
    assert found.a.alone == 2


def test_tokens_stand_for_their_corpus_and_other_artifacts_are_refused(usual: Built, tmp_path: Path) -> None:
    assert diff(Path(usual.path("tokens")), Path(usual.path("corpus"))).both == len(ids_of(usual))
    with pytest.raises(InputError, match="is no corpus, and was not made from one"):
        diff(Path(usual.path("verdicts")), Path(usual.path("corpus")))
    with pytest.raises(InputError, match="no such file"):
        diff(tmp_path / "gone", Path(usual.path("corpus")))
    (tmp_path / "manifest.json").write_bytes(Path(usual.path("corpus")).read_bytes())
    with pytest.raises(StoreError, match="lies in no store"):
        diff(tmp_path, Path(usual.path("corpus")))


def test_ids_and_places() -> None:
    names = ["0" * 31 + digit for digit in "abc"]
    ids = as_ids(pa.chunked_array([names[:1], names[1:]]))
    assert [one.as_py().hex() for one in ids] == names
    assert positions(ids, as_ids(pa.chunked_array([[names[2], names[0], names[2]]]))).tolist() == [1, -1, 0]
    assert positions(pa.array([], ID), ids).tolist() == []
    assert part_of(positions(ids, ids), positions(ids, ids)[[0, 2]]).tolist() == [0, 0, 1]


def test_the_command(folder: Path, usual: Built) -> None:
    strict = build_small(folder, STRICT)
    ran = headrace("diff", usual.path("corpus"), strict.path("corpus"))
    assert ran.status == 0, ran.err
    assert "2 in A alone; why B has not got them" in ran.out
    assert "short: column=gopher_quality.num_words value=127 min=130.0" in ran.out
    told = headrace("diff", usual.path("corpus"), strict.path("corpus"), "--json").json
    assert told["a"]["reasons"][0]["samples"][0]["failed"][0]["limits"] == {"min": 130.0}
    ran = headrace("diff", usual.path("corpus"), build_small(folder, EDITED).path("corpus"))
    assert "in both with another text" in ran.out
    assert "B: " in ran.out
