"""`headrace takedown`: documents of a corpus are hidden at once, and no later build has them."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.inspect import ManifestFile
from headrace.commands.recipe_options import Sources, Workers, build_options, chosen_recipe, num_cores
from headrace.commands.suppress import Date, Domain, Reason, Url
from headrace.commands.train import trained_steps
from headrace.console import Result, as_data, facts, stderr, table

if TYPE_CHECKING:
    from headrace.pipeline.recipe import Recipe
    from headrace.pipeline.rewriting import Asked, Rewritten
    from headrace.pipeline.takedown import TakenDown
    from headrace.pipeline.walk import BuildOptions

Doc = Annotated[str | None, typer.Option("--doc", metavar="ID", help="This one document.")]
ListFile = Annotated[
    Path | None, typer.Option("--file", metavar="LIST", help="A file with a document's id, URL or domain on each line.")
]
Rewrite = Annotated[
    str | None,
    typer.Option("--rewrite", metavar="RECIPE", help="Build this recipe without them, and remove what held them."),
]
Runs = Annotated[
    list[Path] | None, typer.Option("--run", metavar="DIR", help="Tell what of it this run was trained on. Repeatable.")
]


def takedown(
    manifest: ManifestFile,
    reason: Reason,
    url: Url = None,
    domain: Domain = None,
    doc: Doc = None,
    file: ListFile = None,
    date: Date = "",
    run: Runs = None,
    rewrite: Rewrite = None,
    source: Sources = None,
    workers: Workers = None,
) -> Result:
    """Take documents down: later builds of the store leave them out, and this corpus hides them from now on.

    Its parts stay as they are. A run that goes on after it keeps its order, with the tokens of what was taken down
    masked in place. Documents that had been left out in favour of one that goes are held for review, and listed.

    With --rewrite the recipe is built again without them, and all that was made from them is removed from the store:
    texts, side tables, corpora, tokens. Raw files, reports, exports and checkpoints are not touched. Nothing else may
    build in the store meanwhile. A takedown that was cut short is finished by the same command.
    """
    from headrace.pipeline.rewriting import Asked
    from headrace.pipeline.takedown import read_list, take_down

    given = [(what, value) for what, value in (("url", url), ("domain", domain), ("doc_id", doc)) if value is not None]
    if len(given) + (file is not None) != 1:
        raise typer.BadParameter("give one of --url, --domain, --doc and --file")
    named = given or read_list(file)  # type: ignore[arg-type]  # one of both is given
    if rewrite is not None:
        chosen = (chosen_recipe(rewrite, None), build_options(source, None, None))
        return _rewrite(Asked(Path(manifest), named, reason, date), *chosen, workers, run or ())  # type: ignore[arg-type]
    done = take_down(Path(manifest), named, reason, date)  # type: ignore[arg-type]
    exposed = {str(folder): _exposed(folder, done.hidden) for folder in run or ()}
    stderr().print(
        "parts are untouched: build the recipe again for a corpus without it"
        if done.hidden
        else "this corpus holds nothing of it; later builds will not either"
    )

    def show(console: Console) -> None:
        console.print(facts({"suppressions": len(done.records), "deletion vector": done.vector or "-"}))
        console.print(table(("hidden",), [(doc_id,) for doc_id in done.hidden]))
        _show_held(console, done)
        if exposed:
            columns = ("run", "steps", "tokens")
            console.print(table(columns, [(name, one["steps"], one["tokens"]) for name, one in exposed.items()]))

    return Result(as_data(done) | {"exposure": exposed}, show)


def _show_held(console: Console, done: "TakenDown") -> None:
    if done.held:
        columns = ("held for review", "went for", "step")
        console.print(table(columns, [(h.doc_id, h.survivor, h.step) for h in done.held]))


def _rewrite(
    asked: "Asked", recipe: "Recipe", options: "BuildOptions", workers: int | None, runs: Sequence[Path]
) -> Result:
    from headrace.pipeline.engines import make_engine
    from headrace.pipeline.rewriting import rewrite
    from headrace.progress import watching

    exposed: dict[str, dict[str, int]] = {}

    def look(doc_ids: Sequence[str]) -> None:
        if asked.corpus.exists():
            exposed.update({str(folder): _exposed(folder, tuple(doc_ids)) for folder in runs})
        elif runs:
            stderr().print("warning: what the runs were trained on is gone, so it is not told", style="yellow")

    with watching() as watch:
        engine = make_engine(workers or num_cores())
        done = rewrite(asked, recipe, engine, options, found_here=look, watch=watch)
    return _rewritten(done, exposed)


def _rewritten(done: "Rewritten", exposed: dict[str, dict[str, int]]) -> Result:
    """Return what a takedown that erases did."""
    removed = done.removed
    data: dict[str, Any] = {
        "erased": list(removed.erased),
        "manifest": done.built.path("corpus"),
        "tokens_manifest": done.built.path("tokens") if "tokens" in done.built.manifests else None,
        "removed_files": removed.files,
        "removed_bytes": removed.bytes,
        "removed_names": list(removed.names),
        "build_again": list(removed.build_again),
    }

    def show(console: Console) -> None:
        shown = {name.replace("_", " "): value for name, value in data.items() if not isinstance(value, list)}
        console.print(facts(shown))
        console.print(table(("erased",), [(doc_id,) for doc_id in removed.erased]))
        _show_held(console, done.taken)
        if removed.names:
            console.print(f"make again, as they were made from it: {', '.join(removed.names)}")
        if removed.build_again:
            console.print(f"build again, as they held some of it: {', '.join(removed.build_again)}")

    return Result(as_data(done.taken) | {"exposure": exposed} | data, show)


def _exposed(folder: Path, doc_ids: tuple[str, ...]) -> dict[str, int]:
    """Return in how many steps, and with how many tokens, a run was trained on documents."""
    from headrace.trainer.exposure import exposure_of
    from headrace.trainer.relocate import open_recorded
    from headrace.trainer.run_record import read_history, read_run

    history = read_history(folder)
    found = exposure_of(open_recorded(read_run(folder), history=history), set(doc_ids), trained_steps(folder))
    found = [one for one in found if one.step not in history.left_out]
    return {"steps": len({one.step for one in found}), "tokens": sum(one.length for one in found)}
