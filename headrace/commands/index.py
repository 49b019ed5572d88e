"""`headrace index`: a name for a corpus that later recipes compare their documents with (`against`)."""

from pathlib import Path
from typing import Annotated

import typer

from headrace.commands.inspect import ManifestFile
from headrace.console import Result, facts

Name = Annotated[str, typer.Option(help="What recipes of this store call it: lower-case letters, digits, - and _.")]
Step = Annotated[str | None, typer.Option(metavar="LABEL", help="By the keys of which step, where several have some.")]
Workers = Annotated[int, typer.Option(min=1, help="Processes that work side by side.")]


def index(manifest: ManifestFile, name: Name, step: Step = None, workers: Workers = 1) -> Result:
    """Index a corpus by a name, so that recipes with `against` drop what it holds already.

    The name stands for the index that was made, or found, last.
    """
    from headrace.pipeline.engines import make_engine
    from headrace.pipeline.index_corpus import index_corpus
    from headrace.progress import watching

    engine = make_engine(workers)
    try:
        with watching() as watch:
            made = index_corpus(Path(manifest), name, engine, step, watch)
    finally:
        engine.close()
    data: dict[str, object] = {"name": made.name, "manifest": str(made.path), "content": made.manifest.content}
    data |= {"documents": made.documents, "step": made.step}
    return Result(data, lambda console: console.print(facts(data)))
