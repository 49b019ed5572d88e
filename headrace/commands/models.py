"""`headrace models`: the model files that signals use, where they are, and how to get one."""

from typing import Annotated

import typer
from rich.console import Console

from headrace.console import Result, table


def models(
    fetch: Annotated[str | None, typer.Option(help="Put this model into the cache, its digest checked.")] = None,
    source: Annotated[
        str | None, typer.Option("--from", help="Take it from this file or URL instead of its publisher.")
    ] = None,
) -> Result:
    """List the model files that signals use and where each was found, or fetch one."""
    from headrace.filters.models import KNOWN_MODELS, ModelFileError, find_model
    from headrace.pipeline.model_files import fetch_model

    if fetch is not None:
        fetch_model(fetch, source)
    elif source is not None:
        raise typer.BadParameter("--from goes with --fetch MODEL")
    data: list[dict[str, str | None]] = []
    for name, model in KNOWN_MODELS.items():
        path = hint = None
        try:
            path = str(find_model(name))
        except ModelFileError as error:
            hint = str(error)
        data.append({"name": name, "path": path, "sha256": model.sha256, "url": model.url, "hint": hint})

    def show(console: Console) -> None:
        rows = [(item["name"], item["path"] or "not here", item["sha256"]) for item in data]
        console.print(table(("model", "where", "sha256"), rows))
        for item in data:
            if item["hint"]:
                console.print(item["hint"])

    return Result({"models": data}, show)
