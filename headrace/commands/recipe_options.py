"""Options that `build` and `plan` share: which recipe, over which files, with which keys changed."""

import os
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from headrace.pipeline.recipe import Recipe
    from headrace.pipeline.walk import BuildOptions

RecipeName = Annotated[
    str, typer.Argument(metavar="RECIPE", help="A recipe file, or the name of a built-in one (see `headrace recipes`).")
]
StoreFolder = Annotated[
    Path, typer.Option("--store", metavar="DIR", help="Where artifacts lie; made if there is none.")
]
Sources = Annotated[
    list[str] | None,
    typer.Option(
        "--source",
        metavar="NAME=GLOB",
        help="Files of one of the recipe's sources; ** goes into folders. Quote it. Repeatable.",
    ),
]
Sets = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="RULE",
        help="Change one rule, as in gopher_quality.num_words.min=60 or 'c4.num_sentences >= 3', or the share of a "
        "step `best`, as in quality.score.share=0.2. Repeatable.",
    ),
]
Sample = Annotated[
    float | None,
    typer.Option(min=0, max=1, metavar="SHARE", help="Only this share of the records, chosen by their content."),
]
Limit = Annotated[int | None, typer.Option(min=1, metavar="N", help="Only the first N documents.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Processes that work side by side.", show_default="one for each core")
]


def num_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def chosen_recipe(name: str, sets: Iterable[str] | None) -> "Recipe":
    """Return the recipe with all `--set` applied, and checked together.

    Raises:
        InputError, RecipeError: see `load_recipe`.
        RuleError: a `--set` names no rule or step `best`, or gives it a value that cannot be.
    """
    from headrace.filters.overrides import override_rules, parse_rule_override
    from headrace.pipeline.recipe import load_recipe
    from headrace.pipeline.recipe_steps import RulesStep
    from headrace.pipeline.shares import split_shares

    shares, sets = split_shares(sets or ())
    recipe = load_recipe(name).with_shares(shares)
    steps = [step for step in recipe.steps if isinstance(step, RulesStep)]
    composed = [step.composed() for step in steps]
    rules = override_rules([rule for group in composed for rule in group], map(parse_rule_override, sets))
    changed, groups = iter(rules), iter(composed)
    new_steps = [
        step.with_rules([next(changed) for _ in next(groups)]) if isinstance(step, RulesStep) else step
        for step in recipe.steps
    ]
    return recipe.model_copy(update={"steps": new_steps})


def build_options(sources: Iterable[str] | None, sample: float | None, limit: int | None) -> "BuildOptions":
    """Return the options of a build; raises the parser's error for a `--source` without a name or a glob."""
    from headrace.pipeline.walk import BuildOptions

    globs: dict[str, str] = {}
    for text in sources or ():
        name, equals, pattern = text.partition("=")
        if not (name and equals and pattern):
            raise typer.BadParameter(
                f"{text!r}: write NAME=GLOB, as in web='crawl/**/*.warc.gz'", param_hint="--source"
            )
        if name in globs:
            raise typer.BadParameter(f"{name!r} is given twice; one glob names all its files", param_hint="--source")
        globs[name] = pattern
    return BuildOptions(globs, sample, limit)
