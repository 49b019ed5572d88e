"""`headrace recipes`: the recipes that come with Headrace."""

from rich.console import Console

from headrace.console import Result, table


def recipes() -> Result:
    """List the built-in recipes; `build` and `plan` take their names."""
    from headrace.pipeline.recipe import builtin_recipes, load_recipe

    found = [load_recipe(name) for name in builtin_recipes()]
    rows = [(recipe.name, ", ".join(source.name for source in recipe.sources), recipe.description) for recipe in found]

    def show(console: Console) -> None:
        console.print(table(("recipe", "sources", "what it makes"), rows))

    data = [{"name": name, "sources": sources.split(", "), "description": words} for name, sources, words in rows]
    return Result({"recipes": data}, show)
