"""`headrace takedown`: documents of a corpus are hidden at once, and no later build has them."""

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
    from headrace.pipeline.store import Store
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
    texts, side tables, corpora, tokens. Raw files, reports, exports and checkpoints are not touched. A removal that was
    cut short is finished by the same command.
    """
    from headrace.pipeline.takedown import read_list, take_down

    given = [(what, value) for what, value in (("url", url), ("domain", domain), ("doc_id", doc)) if value is not None]
    if len(given) + (file is not None) != 1:
        raise typer.BadParameter("give one of --url, --domain, --doc and --file")
    named = given or read_list(file)  # type: ignore[arg-type]  # one of both is given
    if rewrite is not None and _finished(Path(manifest)):
        return Result({"finished": True}, lambda console: console.print("the removal that was begun is finished"))
    chosen = None if rewrite is None else (chosen_recipe(rewrite, None), build_options(source, None, None))
    done = take_down(Path(manifest), named, reason, date)  # type: ignore[arg-type]
    exposed = {str(folder): _exposed(folder, done.hidden) for folder in run or ()}
    data = as_data(done) | {"exposure": exposed}
    if chosen is not None:
        rewritten = _rewrite(_store_of(Path(manifest)), done, date, chosen, workers)
        return Result(data | {"vector": None} | rewritten, lambda console: _show_rewritten(console, done, rewritten))
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

    return Result(data, show)


def _finished(manifest: Path) -> bool:
    """Finish a removal that was begun in the manifest's store; tell whether there was one, and the manifest went."""
    from headrace.pipeline.erasure import finish_removal

    files, _ = finish_removal(_store_of(manifest))
    return files > 0 and not manifest.exists()


def _show_held(console: Console, done: "TakenDown") -> None:
    if done.held:
        columns = ("held for review", "went for", "step")
        console.print(table(columns, [(h.doc_id, h.survivor, h.step) for h in done.held]))


def _show_rewritten(console: Console, done: "TakenDown", rewritten: dict[str, Any]) -> None:
    told = {name.replace("_", " "): value for name, value in rewritten.items() if name not in ("erased", "build_again")}
    console.print(facts(told))
    console.print(table(("erased",), [(doc_id,) for doc_id in rewritten["erased"]]))
    _show_held(console, done)
    if rewritten["build_again"]:
        console.print(f"build again, as they held some of it: {', '.join(rewritten['build_again'])}")


def _store_of(manifest: Path) -> "Store":
    from headrace.pipeline.store import Store

    return Store.containing(manifest)


def _rewrite(
    store: "Store", done: "TakenDown", date: str, chosen: "tuple[Recipe, BuildOptions]", workers: int | None
) -> dict[str, Any]:
    """Build a recipe without what was taken down, and remove all that was made from it."""
    from headrace.pipeline.build import build
    from headrace.pipeline.engines import make_engine
    from headrace.pipeline.erasure import hold_for_review, record_erasures, remove_what_held
    from headrace.progress import watching

    recipe, options = chosen
    hold_for_review(store, [one.doc_id for one in done.held], date)
    erased = record_erasures(store, done.named)
    with watching() as watch:
        built = build(recipe, store, make_engine(workers or num_cores()), options, watch=watch)
    removed = remove_what_held(store, erased, built)
    return {
        "erased": erased,
        "manifest": built.path("corpus"),
        "tokens_manifest": built.path("tokens") if "tokens" in built.manifests else None,
        "removed_files": removed.files,
        "removed_bytes": removed.bytes,
        "build_again": list(removed.build_again),
    }


def _exposed(folder: Path, doc_ids: tuple[str, ...]) -> dict[str, int]:
    """Return in how many steps, and with how many tokens, a run was trained on documents."""
    from headrace.trainer.exposure import exposure_of
    from headrace.trainer.relocate import open_recorded
    from headrace.trainer.run_record import read_history, read_run

    history = read_history(folder)
    found = exposure_of(open_recorded(read_run(folder), history=history), set(doc_ids), trained_steps(folder))
    found = [one for one in found if one.step not in history.left_out]
    return {"steps": len({one.step for one in found}), "tokens": sum(one.length for one in found)}
