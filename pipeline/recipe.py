"""Recipes: what a person wants of a corpus, as strict TOML; no includes, and no code but of installed `plugins`.

A recipe names its sources and, in order, the steps that documents go through. Reading, the removal of equal records and
the writing of manifests need no words: they are implied.
"""

from collections.abc import Mapping
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any

from pydantic import Field, model_validator

from headrace.pipeline.errors import InputError
from headrace.pipeline.recipe_steps import (
    NAME,
    BestStep,
    MeasureStep,
    RulesStep,
    Section,
    SignalSpec,
    Step,
    TokenizeStep,
)
from headrace.pipeline.schema import SCHEMA_VERSION
from headrace.pipeline.shares import shares_of
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.pipeline.strict_toml import load_toml, parse_toml
from headrace.pipeline.views import signal_id

MODULE = r"^[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*$"
MEBIBYTE = 1 << 20


class Source(Section):
    """Where documents come from; `glob` may be left to `--source NAME=GLOB`, `repair` mends what was extracted."""

    name: str = Field(pattern=NAME)
    glob: str | None = None
    reader: str = "warc"
    reader_options: dict[str, Any] = {}
    extractor: str = "trafilatura"
    extractor_options: dict[str, Any] = {}
    repair: str | None = None
    repair_options: dict[str, Any] = {}

    @model_validator(mode="after")
    def _options_of_something(self) -> "Source":
        if self.repair_options and self.repair is None:
            raise ValueError('repair_options are given, but no repair; say which (repair = "ftfy"), or leave them out')
        return self


class Sharding(Section):
    """Sizes in MiB: of a task's input, and of a row group of the corpus (uncompressed)."""

    task_mebibytes: int = Field(default=256, ge=1)
    row_group_mebibytes: int = Field(default=32, ge=1)


class Split(Section):
    """How many documents in 10,000 are held out of training, and so of the tokenizer's."""

    heldout: int = Field(default=100, ge=0, lt=HELDOUT_UNIT)


class Recipe(Section):
    """A whole recipe."""

    schema_version: int = Field(default=SCHEMA_VERSION, ge=1, le=SCHEMA_VERSION)
    name: str = Field(pattern=NAME)
    description: str = ""
    plugins: list[Annotated[str, Field(pattern=MODULE)]] = []
    sources: list[Source] = Field(min_length=1)
    steps: list[Step] = Field(min_length=1)
    sharding: Sharding = Sharding()
    split: Split = Split()

    @model_validator(mode="after")
    def _one_of_each_name(self) -> "Recipe":
        names = [source.name for source in self.sources]
        if len(set(names)) < len(names):
            raise ValueError(f"two sources share a name: {', '.join(sorted(names))}")
        if "tokenizer" in names and any(isinstance(step, TokenizeStep) and step.tokenizer for step in self.steps):
            raise ValueError(
                "a source is called 'tokenizer', which is what the given tokenizer's file goes by; rename it"
            )
        groups = [step.name for step in self.steps if isinstance(step, RulesStep) and step.name]
        if len(set(groups)) < len(groups):
            raise ValueError(f"two steps of rules share a name: {', '.join(sorted(groups))}")
        kinds = [step.kind for step in self.steps]
        if kinds.count("cut") != 1:
            raise ValueError(f"a recipe has one step of kind 'cut', this one has {kinds.count('cut')}")
        before, after = kinds[: kinds.index("cut")], kinds[kinds.index("cut") + 1 :]
        if "tokenize" in before:
            raise ValueError("a step of kind 'tokenize' stands before 'cut', which makes what it reads; put it last")
        if after not in ([], ["tokenize"]):
            raise ValueError(f"after 'cut' only one step of kind 'tokenize' can come, not {', '.join(after)}")
        return self

    @model_validator(mode="after")
    def _each_measured_once(self) -> "Recipe":
        steps = [step for step in self.steps if isinstance(step, MeasureStep)]
        ids = [signal_id(_name(signal), step.view) for step in steps for signal in step.signals]
        twice = sorted({name for name in ids if ids.count(name) > 1})
        if twice:
            raise ValueError(
                f"the signal {twice[0]!r} is measured twice; give it once, with the options that are meant, "
                "or each a name of its own with `as`"
            )
        return self

    def with_shares(self, shares: Mapping[str, float]) -> "Recipe":
        """Return the recipe with other shares, by column, in its steps `best`; see `shares_of` for errors."""
        best = [(number, step) for number, step in enumerate(self.steps) if isinstance(step, BestStep)]
        steps = list(self.steps)
        for place, share in shares_of([step.column for _, step in best], shares).items():
            number, step = best[place]
            steps[number] = step.model_copy(update={"share": share})
        return self.model_copy(update={"steps": steps})


def _name(signal: str | SignalSpec) -> str:
    return signal if isinstance(signal, str) else signal.called


def load_recipe(name: str) -> Recipe:
    """Read a recipe by path, or a built-in one by name.

    Raises:
        InputError: there is no such file and no such built-in recipe.
        RecipeError: the recipe has an unknown key or a wrong value.
    """
    path = Path(name)
    if path.is_file() or (path.suffix == ".toml" and not path.is_dir()):
        return load_toml(Recipe, path)
    built_in = builtin_recipes()  # these before folders: the demo makes a folder of its recipe's name
    if name not in built_in and path.is_dir():
        raise InputError(f"{path}: is a folder; name a recipe file (.toml)")
    if name not in built_in:
        raise InputError(
            f"{name}: no such file, and no built-in recipe of that name (there are: {', '.join(built_in)})"
        )
    resource = files("headrace.manifests") / "recipes" / f"{name}.toml"
    return parse_toml(Recipe, resource.read_text(encoding="utf-8"), f"{name} (built in)")


def builtin_recipes() -> list[str]:
    """Return the names of the recipes that come with Headrace, sorted."""
    folder = files("headrace.manifests") / "recipes"
    return sorted(item.name.removesuffix(".toml") for item in folder.iterdir() if item.name.endswith(".toml"))
