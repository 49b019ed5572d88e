"""`headrace rules`: the funnel is what a build does, a changed threshold moves whom a new build would move."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from headrace.filters.rules import RuleError
from headrace.pipeline.build import Built
from headrace.pipeline.errors import InputError
from headrace.pipeline.funnel import Answer, ask_rules
from tests.commands import headrace
from tests.small_store import RECIPE, build_small

RULES = """rules = [
    { column = "gopher_quality.num_words", min = 30, reason = "short" },
    { column = "gopher_quality.mean_word_length", min = 4.28, reason = "short_words" },
    { column = "fineweb@c4.num_lines", min = 1, reason = "empty" },
]

[[steps]]
kind = "rules"
name = "late"
rules = [
    { column = "gopher_quality.num_words", max = 140, when = { source = "web" }, reason = "long" },
    { column = "c4.num_sentences", min = 8, reason = "few", by = { source = { notes = { min = 9 } } } },
]

"""


def with_rules(text: str = RULES) -> str:
    start, end = RECIPE.index("rules = ["), RECIPE.index('[[steps]]\nkind = "minhash"')
    return RECIPE[:start] + text + RECIPE[end:]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("questions")


@pytest.fixture(scope="module")
def built(folder: Path) -> Built:
    return build_small(folder, with_rules())


def corpus(built: Built) -> Path:
    return Path(built.path("corpus"))


def values(built: Built) -> Iterator[dict[str, Any]]:
    """Yield what rules see of each document that came to them, with what a rule over it would say."""
    tables = {"documents": "documents", "signals:gopher_quality": "signals", "signals:c4": "signals"}
    tables |= {"signals:fineweb@c4": "signals"}
    seen: set[str] = set()
    for part in range(len(built.manifests["documents"].parts)):
        rows = zip(
            *(
                pq.read_table(built.store.part_path(built.manifests[role], part, table)).to_pylist()
                for role, table in tables.items()
            ),
            strict=True,
        )
        for group in rows:
            merged = {key: value for row in group for key, value in row.items()}
            if merged["doc_id"] not in seen:  # the same record twice never comes to the rules
                seen.add(merged["doc_id"])
                yield merged


def fails(row: dict[str, Any]) -> list[str]:
    web = row["source"] == "web"
    found = {
        "short": row["gopher_quality.num_words"] < 30,
        "short_words": row["gopher_quality.mean_word_length"] < 4.28,
        "empty": row["fineweb@c4.num_lines"] < 1,
        "long": web and row["gopher_quality.num_words"] > 140,
        "few": row["c4.num_sentences"] < (8 if web else 9),
    }
    return [reason for reason, failed in found.items() if failed]


def counts(answer: Answer) -> dict[str, tuple[int, int, int, int]]:
    return {one.rule: (one.fails, one.alone, one.first, one.left) for one in answer.funnel.rules}


def test_each_rule_is_counted_over_all_documents(built: Built) -> None:
    failed = [fails(row) for row in values(built)]
    answer = ask_rules(corpus(built))
    assert answer.documents == len(failed)
    assert answer.funnel.kept == failed.count([])
    left = len(failed)
    for reason, found in counts(answer).items():
        first = sum(reasons[:1] == [reason] for reasons in failed)
        left -= first
        assert found == (
            sum(reason in reasons for reasons in failed),
            sum(reasons == [reason] for reasons in failed),
            first,
            left,
        )
    assert {one.fails for one in answer.funnel.rules} != {0}
    assert [one.allowed for one in answer.funnel.rules] == [">= 30", ">= 4.28", ">= 1", "<= 140", ">= 8; by source"]


def test_the_funnel_in_the_recipes_order_is_the_builds(built: Built) -> None:
    answer = ask_rules(Path(built.path("verdicts")))
    for name in ("quality", "late"):
        step = built.lock.step(f"rules {name}")
        assert step
        from headrace.pipeline.schema import Manifest

        ledger = Manifest.load(built.store.artifact_folder(step.stage, step.key) / "manifest.json").ledger
        told = {one.rule: one.first for one in answer.funnel.rules if one.step == f"rules {name}" and one.first}
        assert told == {reason: tally.records for reason, tally in ledger.dropped.items()}


@pytest.mark.parametrize("order", [["few"], ["late", "empty"], ["fineweb"], ["c4.num_sentences"], ["rules late"]])
def test_another_order_changes_who_drops_and_nothing_else(built: Built, order: list[str]) -> None:
    usual, other = ask_rules(corpus(built)), ask_rules(corpus(built), order=order)
    assert other.funnel.kept == usual.funnel.kept
    assert {k: v[:2] for k, v in counts(other).items()} == {k: v[:2] for k, v in counts(usual).items()}
    assert [one.rule for one in other.funnel.rules] != [one.rule for one in usual.funnel.rules]
    first = other.funnel.rules[0]
    assert first.first == first.fails
    assert other.funnel.rules[-1].left == other.funnel.kept


def test_a_changed_threshold_moves_whom_a_new_build_moves(built: Built, tmp_path: Path) -> None:
    sets = [
        "gopher_quality.mean_word_length < 4.4",
        "gopher_quality.mean_word_length.min=none",
        "fineweb.num_lines >= 0",
    ]
    asked = ask_rules(corpus(built), [*sets, "gopher_quality.num_words.max=138"], num_samples=100)
    assert asked.changed
    text = with_rules(
        RULES.replace("min = 4.28", "max = 4.4, max_open = true").replace("min = 1,", "min = 0,").replace("140", "138")
    )
    again = ask_rules(corpus(build_small(tmp_path, text)))
    assert asked.changed.funnel == again.funnel
    before = {row["doc_id"] for row in values(built) if not fails(row)}
    moved = {one.doc_id for one in asked.changed.now_kept}
    gone = {one.doc_id for one in asked.changed.now_dropped}
    assert moved
    assert gone
    assert not moved & before
    assert gone <= before
    assert (len(moved), len(gone)) == (asked.changed.num_now_kept, asked.changed.num_now_dropped)
    assert asked.funnel.kept + len(moved) - len(gone) == asked.changed.funnel.kept
    assert [one.doc_id for one in asked.changed.now_kept] == sorted(moved)


def test_samples_name_the_rule_the_value_and_both_bounds(built: Built) -> None:
    sets = ["gopher_quality.mean_word_length <= 9", "gopher_quality.mean_word_length.min=none"]
    answer = ask_rules(corpus(built), sets)
    assert answer.changed
    (one, *_) = answer.changed.now_kept
    assert one.url
    (crossed,) = one.crossed
    assert (crossed.rule, crossed.before, crossed.after) == ("short_words", ">= 4.28", "<= 9")
    row = next(row for row in values(built) if row["doc_id"] == one.doc_id)
    assert crossed.value == row["gopher_quality.mean_word_length"] < 4.28


def test_no_samples_and_no_difference(built: Built) -> None:
    answer = ask_rules(corpus(built), ["gopher_quality.num_words >= 30"], num_samples=0)
    assert answer.changed
    assert answer.changed.funnel == answer.funnel
    assert (answer.changed.num_now_kept, answer.changed.num_now_dropped) == (0, 0)
    answer = ask_rules(corpus(built), ["gopher_quality.mean_word_length >= 0"], num_samples=0)
    assert answer.changed
    assert answer.changed.num_now_kept
    assert answer.changed.now_kept == ()


def test_documents_without_text_of_the_store_can_be_asked(folder: Path, built: Built, tmp_path: Path) -> None:
    """Only ids and URLs of the documents are read: a question does not touch text."""
    columns: list[object] = []
    real = pq.ParquetFile.read_row_group

    def watched(self: Any, index: int, columns_: Any = None, **more: Any) -> Any:
        columns.append(more.get("columns", columns_))
        return real(self, index, columns_, **more) if columns_ else real(self, index, **more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pq.ParquetFile, "read_row_group", watched)
        ask_rules(corpus(built), ["gopher_quality.mean_word_length >= 0"])
    assert columns
    assert all(found is not None and "text" not in found for found in columns)  # type: ignore[operator] # lists


@pytest.mark.parametrize(
    ("sets", "order", "complaint"),
    [
        (["gopher_quality.num_word >= 3"], [], r"no rule judges 'gopher_quality.num_word' \(did you mean"),
        (["fineweb.num_line >= 3"], [], "did you mean 'fineweb@c4.num_lines'"),
        ([], ["qualty"], r"no rule, step, column or signal is called 'qualty' \(did you mean 'quality'"),
        (["c4.num_sentences.max=1"], [], "is above max"),
        (["gopher_quality.num_words.on_null=keep"], [], "2 rules judge"),
        (
            ["c4.num_sentences.when={ 'gopher_quality.label' = 'en' }"],
            [],
            r"no column 'gopher_quality.label'.*it has .*num_words",
        ),
        (["c4.num_sentences.when={ 'c4.has_lorem_ipsun' = 'x' }"], [], r"did you mean 'c4.has_lorem_ipsum'"),
    ],
)
def test_questions_that_name_nothing(built: Built, sets: list[str], order: list[str], complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        ask_rules(corpus(built), sets, order)


def test_what_was_not_measured_or_judged_cannot_be_asked(built: Built) -> None:
    with pytest.raises(InputError, match="reads the signal 'language'; to measure it takes the texts: add it"):
        ask_rules(corpus(built), ["c4.num_sentences.when={ 'language.label' = 'en' }"])
    with pytest.raises(InputError, match="no rule was asked on the way to it"):
        ask_rules(Path(built.path("documents")))


# --------------------------------------------------------------------------------------------------------- command


def test_the_command_prints_tables(built: Built) -> None:
    ran = headrace("rules", corpus(built), "--set", "gopher_quality.mean_word_length >= 0", "--order", "late")
    assert ran.status == 0, ran.err
    lines = [line.split() for line in ran.out.splitlines()]
    assert ["step", "rule", "column", "allowed", "fails", "alone", "first", "left"] in lines
    assert any(line[:4] == ["rules", "late", "long", "gopher_quality.num_words"] for line in lines)
    assert "more would be kept" in ran.out
    assert ">= 4.28 -> >= 0" in ran.out
    assert "note: minhash 5: near-duplicates count like all others here; a build finds them" in ran.out
    assert "note: cut: a build also drops documents that c4.removed, pii@c4.redactions leave nothing of" in ran.out
    assert "note:" not in headrace("rules", corpus(built)).out


def test_the_command_prints_json(built: Built) -> None:
    told = headrace("rules", corpus(built), "--set", "gopher_quality.mean_word_length >= 0", "--json").json
    assert told["changed"]["num_now_kept"] == len(told["changed"]["now_kept"])
    assert told["funnel"]["rules"][0]["fails"] >= 1
    assert headrace("rules", corpus(built), "--json").json["changed"] is None


def test_a_build_takes_the_same_comparison(built: Built, folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "small.toml"
    recipe.write_text(with_rules())
    inputs = folder / "inputs"
    sources = ["--source", f"web={inputs}/*.warc.gz", "--source", f"notes={inputs}/*.txt"]
    words = ["plan", recipe, "--store", folder / "store", *sources, "--json"]
    assert headrace(*words).json["complete"]
    changed = headrace(*words, "--set", "fineweb.num_lines >= 2").json
    assert (changed["complete"], changed["steps"][-1]["step"]) == (False, "rules quality")
    assert changed["steps"][-1]["why"] == "config: rules[2].min 1.0 -> 2.0"
