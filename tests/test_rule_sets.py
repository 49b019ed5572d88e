"""Named sets: every one is documented, judges columns that exist, and composes with others, own rules and changes."""

import math
from pathlib import Path
from typing import Any

import pytest

from headrace.filters.contract import signal_classes
from headrace.filters.judging import apply_rule
from headrace.filters.named_rules import compose_rules, load_rule_set, rule_set_names
from headrace.filters.rules import ColumnId, Rule, parse_rule
from headrace.filters.signals.stop_words import stop_word_lists
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.fitting import check_steps
from headrace.pipeline.recipe import Recipe, load_recipe
from headrace.pipeline.recipe_steps import RulesStep
from headrace.pipeline.strict_toml import parse_toml
from tests.small_store import RECIPE

FORMAT = (Path(__file__).parents[1] / "docs" / "format.md").read_text(encoding="utf-8")


def recipe(step: str, signals: str = '["gopher_quality"]') -> Recipe:
    text = f"""name = "r"
[[sources]]
name = "web"
[[steps]]
kind = "measure"
signals = {signals}
[[steps]]
kind = "rules"
{step}
[[steps]]
kind = "cut"
"""
    return parse_toml(Recipe, text, "r.toml")


def rules_of(made: Recipe) -> list[Rule]:
    return [rule for step in made.steps if isinstance(step, RulesStep) for rule in step.composed()]


def test_the_sets_that_were_asked_for_are_there() -> None:
    assert rule_set_names() == ["c4", "dclm", "fineweb", "fineweb2", "gopher", "refinedweb"]


@pytest.mark.parametrize("name", rule_set_names())
def test_every_set_is_documented_and_has_sources(name: str) -> None:
    found = load_rule_set(name)
    assert found.description
    assert "arXiv:" in found.source
    assert f"`{name}`" in FORMAT


@pytest.mark.parametrize("name", rule_set_names())
def test_every_set_judges_columns_that_exist(name: str) -> None:
    known = signal_classes()
    for rule in load_rule_set(name).composed():
        for column_id in rule.columns:
            signal, view, column = ColumnId.parse(column_id)
            assert view in ("raw", "c4")
            if signal in known:  # some are named in recipes: other models under a name of their own
                assert column in [item.name for item in known[signal]().columns]


@pytest.mark.parametrize("name", rule_set_names())
def test_no_rule_of_a_set_stands_twice(name: str) -> None:
    composed = load_rule_set(name).composed()
    assert compose_rules([name, name]) == composed
    reasons = [(rule.reason, rule.column, rule.min is None) for rule in composed]
    assert len(set(reasons)) == len(composed)


def test_sets_stand_before_own_rules_and_changes_come_last() -> None:
    own = parse_rule({"column": "gopher_quality.num_words", "max": 10})
    composed = compose_rules(["c4", "fineweb"], [own], changes={"c4.num_sentences.min": 3, "fineweb.num_lines.min": 2})
    assert [rule.reason for rule in composed][:3] == ["lorem_ipsum", "curly_bracket", "too_few_sentences"]
    assert composed[-1] == own
    assert [rule.min for rule in composed if rule.column in ("c4.num_sentences", "fineweb@c4.num_lines")] == [3, 2]
    assert compose_rules(["c4"], changes={"c4.num_sentences.on_null": "keep"})[2].on_null == "keep"
    both = compose_rules(["gopher"], changes={"gopher_quality.hash_ratio.min": 0})
    taken = compose_rules([], both, changes={"gopher_quality.hash_ratio.max": "none"})
    assert next(rule for rule in taken if rule.column == "gopher_quality.hash_ratio").limits() == {"min": 0.0}


def test_sets_that_share_rules_ask_them_once() -> None:
    assert compose_rules(["gopher", "refinedweb"]) == compose_rules(["refinedweb"])
    assert len(compose_rules(["refinedweb"])) == len(compose_rules(["gopher"])) + 3


def test_a_table_gives_a_label_bounds_of_its_own() -> None:
    by: Any = {"language.label": {"de": {"gopher_above_avg_threshold": {"max": 14}, "gopher_quality.hash_ratio": {}}}}
    made = recipe(
        'sets = ["gopher"]\n[steps.by."language.label".de]\ngopher_above_avg_threshold = { max = 14 }\n'
        '"gopher_quality.hash_ratio" = {}'
    )
    composed = rules_of(made)
    assert composed == compose_rules(["gopher"], by=made.steps[1].by)  # type: ignore[union-attr] # a step of rules
    changed = {rule.reason: rule.by for rule in composed if rule.by}
    assert set(changed) == {"gopher_above_avg_threshold", "gopher_too_many_hashes"}
    assert {key: list(tables) for key, tables in by.items()} == {"language.label": ["de"]}
    long = next(rule for rule in composed if rule.reason == "gopher_above_avg_threshold")
    columns = {"gopher_quality.mean_word_length": [12, 12, 15], "language.label": ["en", "de", "de"]}
    assert apply_rule(long, columns).tolist() == [False, True, False]


def test_fineweb2_judges_each_language_by_its_own_table() -> None:
    rules = load_rule_set("fineweb2").composed()
    composed = {rule.reason: rule for rule in rules}
    labels = composed["no_thresholds"].in_
    assert labels == list(load_rule_set("fineweb2").by["glotlid.label"]) == list(stop_word_lists())
    asked = [rule for rule in rules if rule.reason == "gopher_enough_stop_words"]
    assert [rule.when for rule in asked] == [{"glotlid.label": label} for label in labels]
    assert [rule.column for rule in asked] == [f"stop_words.{label.lower()}" for label in labels]
    columns = {
        "glotlid.score": [0.7, 0.85, 0.31, 0.7],
        "glotlid.label": ["rus_Cyrl", "deu_Latn", "swh_Latn", "tur_Latn"],
    }
    assert apply_rule(composed["language_score"], columns).tolist() == [False, True, True, True]
    off = {"fineweb.line_punct_ratio": [0.0, 0.0, 0.0], "glotlid.label": ["tha_Thai", "deu_Latn", "fra_Latn"]}
    assert apply_rule(composed["line_punct_ratio"], off).tolist() == [True, True, False]
    made = recipe('sets = ["fineweb2"]\n[steps.by."glotlid.label".tur_Latn]\nlanguage_score = { min = 0.8 }')
    turkish = next(rule for rule in rules_of(made) if rule.reason == "language_score")
    assert apply_rule(turkish, columns).tolist() == [False, True, True, False]
    assert all(list((rule.by or {})["glotlid.label"]) == labels for rule in composed.values() if rule.by)


@pytest.mark.parametrize(
    ("step", "complaint"),
    [
        ('sets = ["gofer"]', "no rule set 'gofer' (did you mean 'gopher'?); there are c4, dclm"),
        ('name = "x"', "a step of rules has none; give sets, rules, or both"),
        ('sets = ["c4"]\nset = { "c4.num_sentence.min" = 3 }', "no rule judges 'c4.num_sentence' (did you mean"),
        ('sets = ["c4"]\nset = { "c4.num_sentences.mni" = 3 }', "a rule has no key 'mni' (did you mean 'min'?)"),
        ('sets = ["gopher"]\nby = { source = { web = { gopher_shrt_doc = {} } } }', "did you mean 'gopher_short_doc'?"),
        (
            'sets = ["gopher"]\nby = { source = { web = { "gopher_quality.mean_word_length" = {} } } }',
            "2 rules are called 'gopher_quality.mean_word_length'; name a rule's reason",
        ),
        ('sets = ["fineweb2"]\nby = { source = { web = { dup_line_frac = {} } } }', "already goes by 'glotlid.label'"),
        ('sets = ["c4"]\nby = { source = { web = { too_few_sentences = { mim = 3 } } } }', "did you mean 'min'?"),
    ],
)
def test_what_does_not_fit_together_is_refused(step: str, complaint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        recipe(step)
    assert complaint in str(caught.value)


def test_a_set_says_what_must_be_measured_for_it() -> None:
    with pytest.raises(RecipeError) as caught:
        check_steps(recipe('sets = ["gopher", "c4"]'))
    assert str(caught.value) == (
        "the rule set 'gopher' reads gopher_repetition, which no step before it measures; "
        'add [[steps]] kind = "measure", signals = ["gopher_repetition"]'
    )
    with pytest.raises(RecipeError, match=r'view = "c4", signals = \["fineweb"\]'):
        check_steps(recipe('sets = ["c4", "fineweb"]', '["c4"]'))
    check_steps(recipe('sets = ["gopher", "c4"]', '["gopher_quality", "gopher_repetition", "c4"]'))


@pytest.mark.parametrize(
    ("rule", "complaint"),
    [
        ('column = "gopher_qality.num_words", min = 1', "(did you mean 'gopher_quality'?); add 'gopher_qality' to a"),
        ('column = "gopher_quality.num_wrds", min = 1', "(did you mean 'gopher_quality.num_words'?)"),
        ('column = "gopher_quality.num_words", in = ["x"]', "of kind 'int', so it is none of ['x']"),
        ('column = "gopher_quality.num_words", in = [true]', "list values of that kind"),
        ('column = "c4.has_lorem_ipsum", in = [0]', "of kind 'bool'"),
        ('column = "c4.has_lorem_ipsum", min = 1', "is of kind 'bool', but min and max compare numbers"),
        (
            'column = "c4.num_lines", by = { source = { web = { in = ["x"] } } }',
            "of kind 'int', so it is none of ['x']",
        ),
        (
            'column = "c4.num_lines", by = { sourc = { web = { min = 1 } } }',
            "has `by` on 'sourc', no document has that (did",
        ),
        ('column = "c4.num_lines", by = { "c4.num_lines" = { x = { min = 1 } } }', "but `by` compares labels"),
    ],
)
def test_rules_over_what_is_not_there_name_the_near_miss(rule: str, complaint: str) -> None:
    with pytest.raises(RecipeError) as caught:
        check_steps(recipe(f"rules = [{{ {rule} }}]", '["gopher_quality", "c4"]'))
    assert complaint in str(caught.value)


def test_a_set_is_built_as_its_rules_are(tmp_path: Path) -> None:
    from tests.small_store import build_small

    start, end = RECIPE.index("rules = ["), RECIPE.index('[[steps]]\nkind = "minhash"')
    named = RECIPE[:start] + 'sets = ["c4", "fineweb"]\nset = { "c4.num_sentences.min" = 6 }\n\n' + RECIPE[end:]
    written = (
        RECIPE[:start] + f"rules = [{', '.join(map(as_toml, compose_rules(['c4', 'fineweb'])))}]\n\n" + RECIPE[end:]
    )
    one, other = build_small(tmp_path, named), build_small(tmp_path, written.replace("min = 5.0", "min = 6.0"))
    assert one.lock == other.lock


def as_toml(rule: Rule) -> str:
    data = rule.model_dump(mode="json", by_alias=True, exclude_defaults=True)
    written = {key: str(value).lower() if isinstance(value, list) else value for key, value in data.items()}
    return f"{{ {', '.join(f'{k} = {v!r}' if k != 'in' else f'{k} = {v}' for k, v in written.items())} }}"


def test_the_english_recipe_decides_as_it_did() -> None:
    """FineWeb's chain, in order: language, Gopher's repetition and quality, C4's pages, FineWeb's own."""
    composed = rules_of(load_recipe("web-en"))
    groups = list(dict.fromkeys(ColumnId.parse(rule.column).signal for rule in composed))
    assert groups == ["language", "gopher_repetition", "gopher_quality", "c4", "fineweb"]
    assert len(composed) == 1 + 14 + 10 + 3 + 5
    assert math.isclose(sum(rule.min or 0 for rule in composed), 0.65 + 1 + 50 + 3 + 0.8 + 2 + 5 + 1 + 0.12)
