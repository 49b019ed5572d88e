"""Recipes: strict, and wrong ones are refused in words that name file, key and what would be right."""

from pathlib import Path
from typing import Any

import pytest

from headrace.pipeline.errors import InputError, RecipeError
from headrace.pipeline.recipe import Recipe, builtin_recipes, load_recipe
from headrace.pipeline.strict_toml import load_toml, parse_toml
from tests.small_store import RECIPE, build_small

SOURCE = '[[sources]]\nname = "web"\n'
CUT = '[[steps]]\nkind = "cut"\n'
NAMED_RULES = '[[steps]]\nkind = "rules"\nname = "x"\nrules = [{ column = "a.b", min = 1 }]\n'
SMALLEST = f'name = "r"\n{SOURCE}{CUT}'


def parse(text: str) -> Recipe:
    return parse_toml(Recipe, text, "my.toml")


def complaint(text: str) -> str:
    with pytest.raises(RecipeError) as caught:
        parse(text)
    return str(caught.value)


def test_the_smallest_recipe() -> None:
    recipe = parse(SMALLEST)
    assert (recipe.name, recipe.sources[0].reader, recipe.steps[0].kind) == ("r", "warc", "cut")
    assert (recipe.sharding.task_mebibytes, recipe.split.heldout) == (256, 100)


@pytest.mark.parametrize("name", builtin_recipes())
def test_built_in_recipes_are_recipes(name: str) -> None:
    assert load_recipe(name).name == name
    assert load_recipe(name).description


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALLEST + "\n[shardings]\n", "unknown key 'shardings'; did you mean 'sharding'?"),
        (SMALLEST.replace("name = ", "nmae = ", 1), "unknown key 'nmae'; did you mean 'name'?"),
        (
            SMALLEST.replace('name = "web"', 'name = "web"\nextracter = "x"'),
            "unknown key 'sources.0.extracter'; did you mean 'extractor'?",
        ),
        (SMALLEST + 'edit = ["c4.removed"]\n', "unknown key 'steps.0.cut.edit'; did you mean 'edits'?"),
        (SMALLEST + "[split]\nheldout = 5\nseed = 1\n", "unknown key 'split.seed'; known here: heldout"),
        (
            SMALLEST + '[[steps]]\nkind = "rules"\nrules = [{ column = "a.b", mn = 1 }]\n',
            "did you mean 'min'?",
        ),
    ],
)
def test_an_unknown_key_is_named_with_its_nearest(text: str, expected: str) -> None:
    message = complaint(text)
    assert message.startswith("my.toml: ")
    assert expected in message


def with_rule(rule: str) -> str:
    rules = f'rules = [{{ column = "gopher_quality.num_words", {rule} }}]\n'
    return f'name = "r"\n{SOURCE}[[steps]]\nkind = "rules"\n{rules}{CUT}'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (with_rule('min = "50"'), ("steps.0.rules.rules.0.min = '50'", "valid number")),
        (with_rule("min = true"), ("steps.0.rules.rules.0.min = True", "valid number")),
        (with_rule("min = nan"), ("min",)),
        (with_rule("min = 3, max = 2"), ("min (3.0) is above max (2.0)",)),
        (with_rule("min_open = true"), ("open a bound that is given; here it is not",)),
        (with_rule('in = ["en"], min = 1'), ("not both",)),
        (with_rule('min = 1, on_null = "keeep"'), ("on_null = 'keeep'", "'keep' or 'drop'")),
        (SMALLEST + "[sharding]\ntask_mebibytes = 1.5\n", ("sharding.task_mebibytes = 1.5", "valid integer")),
        (SMALLEST + "[sharding]\ntask_mebibytes = 0\n", ("sharding.task_mebibytes = 0", "greater than or equal to 1")),
        (SMALLEST + "[split]\nheldout = 10000\n", ("split.heldout = 10000", "less than 10000")),
        (SMALLEST.replace('"r"', '"Not a name"'), ("name = 'Not a name'",)),
        (SMALLEST.replace('"r"', "7"), ("name = 7", "valid string")),
        (f'name = "r"\n{SOURCE}', ("the key 'steps' is missing",)),
        (f'name = "r"\nsources = []\n{CUT}', ("sources = []", "at least 1 item")),
        (
            SMALLEST.replace('kind = "cut"', 'kind = "cat"'),
            ("'measure', 'rules', 'exact', 'minhash', 'decontaminate', 'substrings', ", "'cut', 'tokenize'"),
        ),
        (SMALLEST.replace('kind = "cut"\n', ""), ("steps.0",)),
        ("schema_version = 2\n" + SMALLEST, ("schema_version = 2", "less than or equal to 1")),
    ],
)
def test_a_wrong_value_is_named_with_what_would_be_right(text: str, expected: tuple[str, ...]) -> None:
    message = complaint(text)
    assert message.startswith("my.toml: ")
    assert all(part in message for part in expected), message


def test_every_fault_is_named_at_once() -> None:
    message = complaint(with_rule("min = 'x'") + "[split]\nheldout = -1\n[sharding]\nsize = 1\n")
    assert len(message.splitlines()) == 3
    assert all(line.startswith("my.toml: ") for line in message.splitlines())


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (SMALLEST + CUT, "one step of kind 'cut', this one has 2"),
        (SMALLEST.replace(CUT, '[[steps]]\nkind = "minhash"\n'), "one step of kind 'cut', this one has 0"),
        (SMALLEST + '[[steps]]\nkind = "minhash"\n', "after 'cut' only one step of kind 'tokenize' can come"),
        (SMALLEST + '[[steps]]\nkind = "tokenize"\n' * 2, "after 'cut' only one step of kind 'tokenize' can come"),
        (RECIPE.replace('"gopher_quality", "c4"', '"gopher_quality", "c4", "c4"'), "the signal 'c4' is measured twice"),
        (f'name = "r"\n{SOURCE}{NAMED_RULES}{NAMED_RULES}{CUT}', "two steps of rules share a name: x, x"),
        (f'name = "r"\n{SOURCE}{SOURCE}{CUT}', "two sources share a name: web, web"),
        (
            f'name = "r"\n{SOURCE}' + '[[steps]]\nkind = "tokenize"\n' + CUT,
            "stands before 'cut', which makes what it reads",
        ),
    ],
)
def test_steps_that_do_not_fit_together(text: str, expected: str) -> None:
    assert expected in complaint(text)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            '"gopher_quality", "c4"',
            '"gopher_qualty", "c4"',
            "no signal 'gopher_qualty'; did you mean 'gopher_quality'?",
        ),
        (
            'signals = ["gopher_quality", "c4"]',
            'signals = ["c4"]',
            "reads signal 'gopher_quality', which no step before",
        ),
        ('view = "c4"', 'view = "pii"', "reads signal 'pii', which no step before"),
        ('extractor = "resiliparse"', 'extractor = "resiliparser"', "did you mean 'resiliparse'?"),
        ('reader = "text"', 'reader = "txt"', "no reader 'txt'; did you mean 'text'?"),
        ('"pii@c4.redactions"', '"pii.redactions"', "reads signal 'pii', which no step before it measures"),
        (
            '"gopher_quality", "c4"',
            '"gopher_quality", { name = "c4", options = { min_wrds = 3 } }',
            "signal 'c4' has no option 'min_wrds'",
        ),
        (
            'extractor = "resiliparse"',
            'extractor = "resiliparse"\nextractor_options = { main = true }',
            "no option 'main'",
        ),
    ],
)
def test_names_that_nothing_has(tmp_path: Path, old: str, new: str, expected: str) -> None:
    """What a recipe names and the program lacks, and what a step reads and none before it makes."""
    with pytest.raises(RecipeError) as caught:
        build_small(tmp_path, RECIPE.replace(old, new))
    assert expected in str(caught.value)


def test_files_that_are_no_recipe(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no such file, and no built-in recipe.*web-en"):
        load_recipe("web-em")
    with pytest.raises(InputError, match=r"gone\.toml: cannot be read: No such file"):
        load_recipe(str(tmp_path / "gone.toml"))
    folder = tmp_path / "folder.toml"
    folder.mkdir()
    with pytest.raises(InputError, match="is a folder; name a recipe file"):
        load_recipe(str(folder))
    path = tmp_path / "r.toml"
    path.write_bytes(b"name = \xff")
    with pytest.raises(InputError, match=r"r\.toml: not UTF-8 text at byte 7"):
        load_recipe(str(path))
    path.write_text("name = [")
    with pytest.raises(RecipeError, match=r"r\.toml: not TOML"):
        load_recipe(str(path))
    path.write_text(SMALLEST)
    assert load_recipe(str(path)) == load_toml(Recipe, path)


def test_text_around_keys_does_not_matter() -> None:
    """What is built follows from values: defaults may be written out, comments added, tables written in one line."""
    written: dict[str, Any] = {"reader": "warc", "extractor": "trafilatura"}
    lines = "".join(f'{key} = "{value}"\n' for key, value in written.items())
    text = SMALLEST.replace('name = "web"\n', f'name = "web" # a comment\n{lines}') + "[split]\nheldout = 100\n"
    assert parse(text) == parse(SMALLEST)
