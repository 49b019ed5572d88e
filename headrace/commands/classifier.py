"""`headrace classifier train`: learn what good (or bad) texts look like, for the signal `classifier`."""

from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console

from headrace.commands.recipe_options import StoreFolder
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.pipeline.classifier import Classifier

SHOWN_THRESHOLDS = (0.1, 0.25, 0.5, 0.75, 0.9)

Positive = Annotated[
    str, typer.Option(metavar="GLOB", help="Texts to find: .txt, .jsonl, .parquet or .csv, also .gz and .zst.")
]
Negative = Annotated[str, typer.Option(metavar="GLOB", help="Texts to tell them from.")]
Name = Annotated[
    str,
    typer.Option(help="What recipes of this store call it (`artifact`): lower-case letters, digits, - and _."),
]
Where = Annotated[str, typer.Option(metavar="COLUMN=VALUE,...", help="Of these files only rows with such a value.")]
TextColumn = Annotated[str, typer.Option(help="Where the text of JSON lines, Parquet and CSV is.")]
Normalize = Annotated[str, typer.Option(help="`lines`: the text as it is; `words`: lower case, signs set apart.")]
HeldOut = Annotated[
    float, typer.Option(min=0.0001, max=0.9999, help="Share of the texts, chosen by hash, to measure on.")
]


def classifier_train(
    positive: Positive,
    negative: Negative,
    store: StoreFolder,
    name: Name,
    positive_where: Where = "",
    negative_where: Where = "",
    text_column: TextColumn = "text",
    normalize: Normalize = "lines",
    heldout: HeldOut = 0.1,
    dim: Annotated[int, typer.Option(min=1, help="Numbers in a word's vector.")] = 100,
    epochs: Annotated[int, typer.Option(min=1, help="Times that each text is read.")] = 5,
    learning_rate: Annotated[float, typer.Option(help="The first learning rate; it falls to 0.")] = 0.1,
    word_ngrams: Annotated[int, typer.Option(min=1, help="Longest run of words that has a vector.")] = 2,
    min_count: Annotated[int, typer.Option(min=1, help="Words that occur less often have no vector.")] = 1,
    min_chars: Annotated[int, typer.Option(min=0, help="Shortest run of characters that has a vector.")] = 0,
    max_chars: Annotated[int, typer.Option(min=0, help="Longest such run; 0 for none.")] = 0,
    buckets: Annotated[int, typer.Option(min=1, help="Vectors that all runs share, by hash.")] = 2_000_000,
    quantize: Annotated[bool, typer.Option("--quantize", help="Make the model much smaller, a little worse.")] = False,
) -> Result:
    """Train a fastText classifier on positive and negative texts and measure it on a part that is held out.

    What was trained on the same texts with the same options before is found in the store, not trained again. The name
    stands for what was trained, or found, last.
    """
    from pydantic import ValidationError

    from headrace.pipeline.classifier import train_classifier
    from headrace.pipeline.split import HELDOUT_UNIT
    from headrace.pipeline.stages.classifier import TrainClassifier
    from headrace.pipeline.store import Store
    from headrace.progress import watching

    try:
        stage = TrainClassifier.model_validate(
            {
                "positive_where": positive_where,
                "negative_where": negative_where,
                "text_column": text_column,
                "normalize": normalize,
                "heldout": round(heldout * HELDOUT_UNIT),
                "dim": dim,
                "epochs": epochs,
                "learning_rate": learning_rate,
                "word_ngrams": word_ngrams,
                "min_count": min_count,
                "min_chars": min_chars,
                "max_chars": max_chars,
                "buckets": buckets,
                "quantize": quantize,
            }
        )
    except ValidationError as error:
        first = error.errors()[0]
        raise typer.BadParameter(f"{'.'.join(map(str, first['loc']))}: {first['msg']}") from None
    with watching() as watch:
        trained = train_classifier(name, stage, positive, negative, Store.open(store), watch)
    return _result(name, trained)


def _result(name: str, trained: "Classifier") -> Result:
    report = trained.report
    held = report["heldout"]
    data = {
        "name": name,
        "manifest": str(trained.path),
        "content": trained.manifest.content,
        "model": str(trained.model),
        "sha256": report["model_sha256"],
        "bytes": trained.model.stat().st_size,
        "texts": report["texts"],
        "dropped": as_data(trained.manifest.ledger.dropped),
        "heldout": held,
    }

    def show(console: Console) -> None:
        console.print(facts({key: value for key, value in data.items() if not isinstance(value, dict)}))
        console.print()
        labels = report["labels"]
        counts = [(side, *(report["texts"][side][label] for label in labels)) for side in ("train", "heldout")]
        console.print(table(("texts", *labels), counts))
        ratios = ("average_precision", "roc_auc", "expected_calibration_error", "brier_score")
        console.print(facts({key.replace("_", " "): _short(held[key]) for key in ratios}))
        console.print()
        shown = [item for item in held["thresholds"] if item["threshold"] in SHOWN_THRESHOLDS]
        rows = [tuple(_short(item[key]) for key in ("threshold", "precision", "recall", "f1")) for item in shown]
        console.print(table(("score from", "precision", "recall", "F1"), rows))

    return Result(data, show)


def _short(value: float | None) -> str | None:
    return None if value is None else f"{value:.4f}"
