"""`headrace demo`: the whole way at once."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.recipe_options import Workers, num_cores
from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.demo import Demo

Out = Annotated[Path, typer.Option("--out", metavar="DIR", help="Where everything goes; what is there is used.")]


def demo(out: Out = Path("demo"), workers: Workers = None) -> Result:
    """Crawl Python's documentation from this machine itself, build a corpus, train a small model, look back.

    Needs no network, and a few minutes. A second run only looks at what is there.
    """
    from headrace.demo import run_demo
    from headrace.pipeline.store import writing

    with writing(out):
        made = run_demo(out, workers or num_cores())
    return Result(_data(made), lambda console: _show(made, console))


def _data(made: "Demo") -> dict[str, Any]:
    from headrace.commands.build import built_result
    from headrace.demo import next_commands

    return {
        "crawl": str(made.crawl),
        **built_result(made.built).data,
        "run_file": str(made.run_file),
        "run": str(made.run),
        **{
            key: as_data(getattr(made.report, key))
            for key in ("step", "loss", "eval_loss", "bits_per_byte", "checkpoint")
        },
        "sample": made.sample,
        "seconds": round(made.seconds, 1),
        "next": [command for _, command in next_commands(made)],
    }


def _show(made: "Demo", console: Console) -> None:
    from headrace.commands.inspect import funnel_table
    from headrace.demo import next_commands
    from headrace.pipeline.inspect import inspect

    corpus = made.built.path("corpus")
    _heading(console, "what went through")
    console.print(funnel_table(inspect(Path(corpus), 0).steps))
    _heading(console, "what the model learned (loss in nats a token; held-out text in bits a byte)")
    columns = ("step", "loss", "held-out loss", "bits per byte")
    keys = ("step", "loss", "eval_loss", "bits_per_byte")
    console.print(table(columns, [[_number(record.get(key)) for key in keys] for record in made.log]))
    _heading(console, "what it writes")
    console.print(made.sample)
    _heading(console, "where everything lies")
    console.print(facts(_places(made)))
    _heading(console, "what to try next")
    for words, command in next_commands(made):
        console.print(f"# {words}")
        console.print(f"{command}\n")
    console.print(f"{made.seconds:.0f} seconds")


def _heading(console: Console, words: str) -> None:
    console.print(f"\n{words}\n", style="bold")


def _places(made: "Demo") -> dict[str, str]:
    from headrace.demo import short

    report = made.report
    return {
        "crawl": short(made.crawl),
        "corpus": short(made.built.path("corpus")),
        "tokenizer": short(made.built.path("tokenizer")),
        "tokens": short(made.built.path("tokens")),
        "lock": short(made.built.lock_path),
        "run file": short(made.run_file),
        "log": short(made.run / "metrics.jsonl"),
        "checkpoint": short(report.checkpoint) if report.checkpoint else "-",
    }


def _number(value: Any) -> Any:
    return f"{value:.3f}" if isinstance(value, float) else value
