"""`headrace export`: a trained model in the form of another library."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.commands.train import Stores, Tokens
from headrace.console import Result, as_data, facts

SavedPath = Annotated[
    Path,
    typer.Argument(metavar="DIR", help="A run, whose newest checkpoint is taken, or a folder `checkpoints/step-...`."),
]
NewFolder = Annotated[Path, typer.Option("--out", metavar="FOLDER", help="A folder that is not there yet.")]
Form = Annotated[str, typer.Option("--to", metavar="FORM", help="hf: what the library transformers loads.")]
DTypeName = Annotated[str, typer.Option("--dtype", metavar="TYPE", help="float32, bfloat16 or float16.")]

FORMS = ("hf",)
DTYPES = ("float32", "bfloat16", "float16")


def export(
    saved: SavedPath,
    out: NewFolder,
    to: Form = "hf",
    dtype: DTypeName = "float32",
    store: Stores = None,
    tokens: Tokens = None,
) -> Result:
    """Write a model with its tokenizer and a card for transformers, by its own classes where they compute the same.

    Otherwise its code is written beside the weights, and is loaded with trust_remote_code=True.
    """
    for name, value, known in (("--to", to, FORMS), ("--dtype", dtype, DTYPES)):
        if value not in known:
            raise typer.BadParameter(f"{value!r}: {name} takes {', '.join(known)}")
    from headrace.model_card import model_card
    from headrace.trainer.exports.hf import ModelToExport, export_model, require_transformers
    from headrace.trainer.saved_model import open_saved

    require_transformers()
    opened = open_saved(saved, store or (), tokens or ())
    trained = ModelToExport(opened.model(), opened.objective, opened.vocabulary, opened.sequence_length)
    found = export_model(trained, out, model_card(opened, trained), dtype)  # type: ignore[arg-type]  # one of DTYPES
    data = {"step": opened.checkpoint.step, **as_data(found)}

    def show(console: Console) -> None:
        told = {**data, "obstacles": ", ".join(found.obstacles) or None}
        console.print(facts(told | {"largest_difference": f"{found.largest_difference:.2g}"}))

    return Result(data, show)
