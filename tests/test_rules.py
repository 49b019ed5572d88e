"""Rules refuse what cannot be, judge whole columns, and one key of one rule can be overridden by name."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import pytest

from headrace.filters.judging import apply_rule, failures, first_failures
from headrace.filters.overrides import override_rules, parse_rule_override
from headrace.filters.rules import Bounds, ColumnId, Rule, RuleError, parse_rule


def rule(**keys: Any) -> Rule:
    return parse_rule({"column": "s.x", **keys})


@pytest.mark.parametrize(
    ("keys", "complaint"),
    [
        ({}, "it allows everything"),
        ({"min": 1, "in": ["a"]}, "not both"),
        ({"min": 2, "max": 1}, r"min \(2.0\) is above max"),
        ({"min": 1, "max": 1, "max_open": True}, "empty"),
        ({"min": float("nan")}, "finite"),
        ({"max": float("inf")}, "finite"),
        ({"min": True}, "valid number, not True"),
        ({"min": "1"}, "valid number, not '1'"),
        ({"min": 1, "min_open": 1}, "valid boolean"),
        ({"min": 1, "max_open": True}, "open a bound that is given"),
        ({"mim": 1}, "did you mean 'min'"),
        ({"in": []}, "at least 1"),
        ({"in": [1.5]}, "in:"),
        ({"min": 1, "on_null": "kep"}, "'keep' or 'drop'"),
        ({"min": 1, "reason": ""}, "reason"),
        ({"min": 1, "when": {"language.label": []}}, "never apply"),
        ({"min": 1, "when": {"not an id": "x"}}, "no column id"),
        ({"min": 1, "column": "words"}, "signal.column or signal@view.column"),
        ({"min": 1, "column": "A.b"}, "no column id"),
    ],
)
def test_what_cannot_be_is_refused_in_plain_words(keys: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        rule(**keys)


def test_the_reason_is_the_column_unless_given() -> None:
    assert rule(min=1).reason == "x"
    assert rule(min=1, reason="short").reason == "short"
    assert parse_rule({"column": "fineweb@c4.num_lines", "min": 1}).reason == "num_lines"


@pytest.mark.parametrize(
    ("keys", "values", "passes"),
    [
        ({"min": 1}, [0, 1, 2, None], [False, True, True, False]),
        ({"min": 1, "max": 2, "on_null": "keep"}, [0.5, 1.0, 2.0, 2.5, None], [False, True, True, False, True]),
        ({"min": 1, "min_open": True, "max": 2, "max_open": True}, [1, 1.5, 2], [False, True, False]),
        ({"in": ["en", "de"]}, ["en", "fr", None], [True, False, False]),
        ({"in": [False]}, [True, False, None], [False, True, False]),
        ({"in": [1]}, [1, 2, 0], [True, False, False]),
        ({"in": [1, True, "a"]}, [True, False, None], [True, False, False]),
        ({"min": 0}, [], []),
        ({"max": 3}, [None, None], [False, False]),
    ],
)
def test_judging(keys: Mapping[str, Any], values: list[Any], passes: list[bool]) -> None:
    assert apply_rule(rule(**keys), {"s.x": values}).tolist() == passes
    if values and None not in values and len({type(value) for value in values}) == 1:
        assert apply_rule(rule(**keys), {"s.x": np.array(values)}).tolist() == passes


def test_a_rule_with_when_leaves_other_documents_alone() -> None:
    columns = {"s.x": [0, 0, 5, None], "language.label": ["en", "de", "en", None]}
    assert apply_rule(rule(min=1, when={"language.label": "en"}), columns).tolist() == [False, True, True, True]
    both = rule(min=1, when={"language.label": ["en", "de"], "source": "web"})
    columns["source"] = ["web", "book", "web", "web"]
    assert both.columns == ("s.x", "language.label", "source")
    assert apply_rule(both, columns).tolist() == [False, True, True, True]


@pytest.mark.parametrize(
    ("values", "complaint"),
    [(["a"], "no numbers"), ([True, None], "no numbers"), ([float("nan")], "NaN"), ([1.0, None, float("nan")], "NaN")],
)
def test_columns_of_the_wrong_kind_are_refused(values: list[Any], complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        apply_rule(rule(min=1), {"s.x": values})


@pytest.mark.parametrize(("accepted", "values"), [([1], [True]), ([True], [1]), (["a"], [1]), ([1], ["a"])])
def test_a_list_of_another_type_is_refused(accepted: list[Any], values: list[Any]) -> None:
    with pytest.raises(RuleError, match="list values of that type"):
        apply_rule(rule(**{"in": accepted}), {"s.x": values})


def test_an_absent_column_is_named_with_the_near_miss() -> None:
    with pytest.raises(RuleError, match=r"no column 's.x' \(did you mean 's.y'\?\)"):
        apply_rule(rule(min=1), {"s.y": [1]})


def test_the_first_failing_rule_decides() -> None:
    rules = [rule(min=1), rule(max=3), parse_rule({"column": "s.y", "in": ["a"]})]
    columns = {"s.x": [0, 2, 9, 0], "s.y": ["b", "a", "b", None]}
    failed = failures(rules, columns)
    assert failed.tolist() == [[True, False, True], [False] * 3, [False, True, True], [True, False, True]]
    assert first_failures(failed).tolist() == [0, -1, 1, 0]


def test_documents_with_a_label_can_have_bounds_of_their_own() -> None:
    columns = {"s.x": [4, 4, 12, 12, None, 4], "language.label": ["en", "de", "de", None, "de", "th"]}
    own = rule(min=3, max=10, by={"language.label": {"de": {"min": 5, "max": 14}, "th": {}}})
    assert own.columns == ("s.x", "language.label")
    assert apply_rule(own, columns).tolist() == [True, False, True, False, False, True]
    only = rule(by={"language.label": {"de": {"min": 5}}})
    assert apply_rule(only, columns).tolist() == [True, False, True, True, False, True]
    kept = rule(by={"language.label": {"de": {"min": 5}}}, on_null="keep", when={"language.label": ["de", "en"]})
    assert apply_rule(kept, columns).tolist() == [True, False, True, True, True, True]
    labels = rule(**{"in": [1], "by": {"language.label": {"de": {"in": [4, 12]}}}})
    assert apply_rule(labels, columns).tolist() == [False, True, True, False, False, False]


@pytest.mark.parametrize(
    ("by", "complaint"),
    [
        ({}, "by looks at one column, here it names 0"),
        ({"source": {}}, "source has no value with bounds of its own"),
        ({"a.b": {"de": {"min": 1}}, "source": {"x": {"min": 1}}}, "here it names 2"),
        ({"not an id": {"de": {"min": 1}}}, "no column id"),
        ({"source": {"web": {"mni": 1}}}, "did you mean 'min'"),
        ({"source": {"web": {"min": 2, "max": 1}}}, "above max"),
    ],
)
def test_bounds_by_label_that_cannot_be(by: Mapping[str, Any], complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        rule(min=1, by=by)


@pytest.mark.parametrize(
    ("keys", "words"),
    [
        ({"min": 1, "max": 2.5, "max_open": True}, ">= 1 and < 2.5"),
        ({"min": 0.65, "min_open": True}, "> 0.65"),
        ({"in": ["en", "de"]}, "in en, de"),
        ({}, "anything"),
    ],
)
def test_bounds_in_words(keys: Mapping[str, Any], words: str) -> None:
    assert str(Bounds.model_validate(keys)) == words
    assert Bounds.model_validate(keys).limits() == keys


def test_column_ids() -> None:
    assert ColumnId.parse("fineweb@c4.line_punct_ratio") == ("fineweb", "c4", "line_punct_ratio")
    assert ColumnId.parse("pii.num_ips") == ("pii", "raw", "num_ips")
    assert str(ColumnId.parse("minhash@c4.signature")) == "minhash@c4.signature"
    assert str(ColumnId.parse("fineweb@raw.num_lines")) == "fineweb.num_lines"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("gopher_quality.num_words.min=60", ("gopher_quality.num_words", {"min": 60})),
        ("fineweb@c4.line_punct_ratio.max=0.5", ("fineweb@c4.line_punct_ratio", {"max": 0.5})),
        ("s.x.on_null=keep", ("s.x", {"on_null": "keep"})),
        ('s.x.in=["en", "de"]', ("s.x", {"in": ["en", "de"]})),
        ('s.x.in = ["en"]', ("s.x", {"in": ["en"]})),
        ("s.x.in=[false]", ("s.x", {"in": [False]})),
        ('s.x.reason="too <= short"', ("s.x", {"reason": "too <= short"})),
        ("s.x.min=none", ("s.x", {"min": None})),
        ("fineweb@c4.short_line_ratio <= 0.5", ("fineweb@c4.short_line_ratio", {"max": 0.5, "max_open": None})),
        ("s.x<3", ("s.x", {"max": 3, "max_open": True})),
        (" s.x >= -1.5 ", ("s.x", {"min": -1.5, "min_open": None})),
        ("s.x > 0", ("s.x", {"min": 0, "min_open": True})),
        ('s.x in ["en"]', ("s.x", {"in": ["en"]})),
    ],
)
def test_overrides_are_read(text: str, expected: tuple[str, Mapping[str, Any]]) -> None:
    override = parse_rule_override(text)
    assert (override.column, override.changes) == expected


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("s.x.mni=1", "did you mean 'min'"),
        ("s.x.column=1", "no key 'column'"),
        ("s.x.min", "COLUMN.KEY=VALUE"),
        ("x.min=1", "no column id"),
        ("s.x.min=two words", "neither a TOML value"),
        ("s.x.min=1\nother=2", "neither a TOML value"),
        ("s.x <= high", "'high' is no number"),
        ("s.x <= true", "True is no number"),
        ("s.x in en", "after `in` stands a list"),
        ("s.x == 3", "COLUMN.KEY=VALUE"),
        ("x <= 3", "no column id"),
    ],
)
def test_overrides_that_cannot_be_read(text: str, complaint: str) -> None:
    with pytest.raises(RuleError, match=complaint):
        parse_rule_override(text)


def test_an_override_changes_the_rule_that_has_the_key() -> None:
    rules = [rule(min=50, reason="short"), rule(max=100, reason="long"), parse_rule({"column": "s.y", "min": 1})]
    changed = override_rules(rules, [parse_rule_override("s.x.max=70")])
    assert [r.max for r in changed] == [None, 70, None]
    assert [r.reason for r in changed] == ["short", "long", "y"]
    assert override_rules(rules, [parse_rule_override("s.y.on_null=keep")])[2].on_null == "keep"


def test_a_comparison_replaces_a_bound_and_whether_it_is_open() -> None:
    rules = [rule(min=50, min_open=True), rule(max=100)]
    assert override_rules(rules, [parse_rule_override("s.x >= 40")])[0] == rule(min=40)
    assert override_rules(rules, [parse_rule_override("s.x < 40")])[1] == rule(max=40, max_open=True)


def test_overrides_are_checked_together() -> None:
    """Each alone would leave no value that passes; the order does not matter, and what is left wrong is named."""
    rules = [rule(min=50, max=100)]
    both = [parse_rule_override(text) for text in ("s.x.min=200", "s.x.max=300")]
    assert override_rules(rules, both) == override_rules(rules, both[::-1]) == [rule(min=200, max=300)]
    moved = [parse_rule_override(text) for text in ("s.x.min=none", "s.x.max=none", "s.x.in=[1, 2]")]
    assert override_rules(rules, moved) == [parse_rule({"column": "s.x", "in": [1, 2]})]
    with pytest.raises(RuleError, match=r"rule over 's\.x': min \(200"):
        override_rules(rules, both[:1])


def test_the_view_may_be_left_out_where_one_is_judged() -> None:
    rules = [parse_rule({"column": "fineweb@c4.x", "max": 1}), parse_rule({"column": "s.x", "max": 1})]
    assert override_rules(rules, [parse_rule_override("fineweb.x <= 2")])[0].max == 2
    both = [*rules, parse_rule({"column": "fineweb@d.x", "max": 1})]
    with pytest.raises(RuleError, match=r"on several views; write one of fineweb@c4\.x, fineweb@d\.x"):
        override_rules(both, [parse_rule_override("fineweb.x <= 2")])
    raw = [*both, parse_rule({"column": "fineweb.x", "max": 1})]
    assert [one.max for one in override_rules(raw, [parse_rule_override("fineweb.x <= 2")])] == [1, 1, 1, 2]


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("s.z.min=1", r"no rule judges 's.z' \(did you mean"),
        ("s.x.on_null=keep", "2 rules judge"),
        ("s.y.min=none", "it allows everything"),
        ("s.y.min=true", "valid number"),
    ],
)
def test_overrides_that_cannot_be_applied(text: str, complaint: str) -> None:
    rules = [rule(min=50), rule(max=100), parse_rule({"column": "s.y", "min": 1})]
    with pytest.raises(RuleError, match=complaint):
        override_rules(rules, [parse_rule_override(text)])


def test_bounds_by_label_judge_no_rows() -> None:
    import pyarrow as pa

    rule = parse_rule({"column": "a.b", "min": 1, "by": {"s.l": {"x": {"max": 2}}}})
    columns = {"a.b": pa.array([], pa.int64()), "s.l": pa.array([], pa.string())}
    assert apply_rule(rule, columns).tolist() == []


def test_lists_hold_what_columns_can_hold() -> None:
    with pytest.raises(RuleError, match="99999999999999999999 is no number that a column can hold"):
        parse_rule({"column": "a.b", "in": [99999999999999999999]})
