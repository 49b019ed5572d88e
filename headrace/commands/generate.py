"""`headrace generate`: text from a trained model, shown while it comes."""

import sys
import time
import unicodedata
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.commands.export import SavedPath
from headrace.commands.train import Stores, Tokens
from headrace.console import Result, as_data, stderr

if TYPE_CHECKING:
    from headrace.trainer.completion import Completion, OnText

PromptText = Annotated[str | None, typer.Option("--prompt", metavar="TEXT", help="What stands before; may be empty.")]
PromptFile = Annotated[
    Path | None, typer.Option("--prompt-file", metavar="FILE", help="A file of UTF-8 that has it; - reads stdin.")
]
MaxTokens = Annotated[int, typer.Option("--max-tokens", metavar="N", min=1, help="Tokens to draw at most.")]
Temperature = Annotated[float, typer.Option(metavar="T", help="0 takes the likeliest token each time.")]
TopK = Annotated[int | None, typer.Option("--top-k", metavar="K", help="Draw among the K likeliest.")]
TopP = Annotated[float, typer.Option("--top-p", metavar="P", help="Draw among the fewest whose share reaches P.")]
Penalty = Annotated[
    float, typer.Option("--repetition-penalty", metavar="R", help="Above 1: what the text has becomes less likely.")
]
Stop = Annotated[list[str] | None, typer.Option("--stop", metavar="TEXT", help="Ends the text. Repeatable.")]
Seed = Annotated[int | None, typer.Option(metavar="N", min=0, help="Draw the same each time.")]
ContextSize = Annotated[
    int | None,
    typer.Option("--context", metavar="N", help="Tokens the model sees at once; by default as many as in training."),
]
Condition = Annotated[
    int | None, typer.Option(metavar="N", help="Of a model with conditions: as documents of corpus N, from 0.")
]
DeviceName = Annotated[str, typer.Option("--device", metavar="NAME", help="auto, cpu, cuda, cuda:1, ...")]


@dataclass(frozen=True)
class _Written(Mapping[str, Any]):
    """What a command tells programs of a text that is written when it is asked for, once."""

    write: "Callable[[OnText | None], Completion]"
    told: "Mapping[str, Any]"

    @cached_property
    def data(self) -> dict[str, Any]:
        """Write without showing it."""
        return self.run(None)

    def run(self, on_text: "OnText | None") -> dict[str, Any]:
        """Write, and return what is to be told."""
        started = time.perf_counter()
        found = self.write(on_text)
        seconds = time.perf_counter() - started
        speed = {"seconds": round(seconds, 3), "tokens_per_second": round(len(found.tokens) / seconds, 1)}
        return {**self.told, **as_data(found), **speed}

    def __getitem__(self, key: str) -> Any:
        return self.data[key]

    def __iter__(self) -> Iterator[str]:
        return iter(self.data)

    def __len__(self) -> int:
        return len(self.data)


def generate(
    saved: SavedPath,
    prompt: PromptText = None,
    prompt_file: PromptFile = None,
    max_tokens: MaxTokens = 256,
    temperature: Temperature = 1.0,
    top_k: TopK = None,
    top_p: TopP = 1.0,
    repetition_penalty: Penalty = 1.0,
    stop: Stop = None,
    seed: Seed = None,
    context: ContextSize = None,
    condition: Condition = None,
    device: DeviceName = "auto",
    store: Stores = None,
    tokens: Tokens = None,
) -> Result:
    """Write what a trained model makes of a prompt, until the end of the document, a stop string or so many tokens.

    The prompt begins a document, as in training. A text that outgrows the context goes on from its later half.
    """
    from headrace.trainer.completion import complete
    from headrace.trainer.device import choose_bf16, choose_device
    from headrace.trainer.generate import Reader
    from headrace.trainer.sampling import Sampling
    from headrace.trainer.saved_model import open_saved

    text = _prompt(prompt, prompt_file)
    sampling = Sampling(temperature, top_k, top_p, repetition_penalty)
    opened, chosen = open_saved(saved, store or (), tokens or ()), choose_device(device)
    bf16 = choose_bf16(opened.record.run.run.bf16, chosen)
    reader = Reader(opened.model(chosen), opened.objective.sight, condition, bf16)
    limit = context or opened.sequence_length

    def write(on_text: "OnText | None") -> "Completion":
        return complete(
            reader,
            opened.vocabulary,
            text,
            max_tokens,
            sampling,
            stops=stop or (),
            seed=seed,
            context=limit,
            on_text=on_text,
        )

    written = _Written(write, {"step": opened.checkpoint.step, "prompt": text, "seed": seed})
    return Result(written, lambda console: _show(written, console))


def _prompt(text: str | None, file: Path | None) -> str:
    """Return the prompt, from where it is given."""
    from headrace.pipeline.errors import InputError

    if (text is None) == (file is None):
        raise typer.BadParameter("give one of --prompt and --prompt-file")
    if file is None:
        return text or ""
    try:
        return (sys.stdin.buffer.read() if str(file) == "-" else file.read_bytes()).decode("utf-8")
    except OSError as error:
        raise InputError(f"{file}: cannot be read ({error.strerror}); name a file of text") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{file}: byte {error.start} is not UTF-8; a prompt is text") from None


def _show(written: _Written, console: Console) -> None:
    """Print the prompt and, as it comes, what follows; a terminal is not given control characters."""

    def tell(text: str) -> None:
        sys.stdout.write(_harmless(text) if console.is_terminal else text)
        sys.stdout.flush()

    tell(written.told["prompt"])
    found = written.run(tell)
    tell("\n")
    if found["prompt_cut"]:
        stderr().print(f"the first {found['prompt_cut']:,} tokens of the prompt found no room", style="yellow")
    stderr().print(
        f"{len(found['tokens']):,} tokens, {found['tokens_per_second']:,.0f} a second; ended by: {found['ended_by']}"
    )


def _harmless(text: str) -> str:
    """Return text without characters that move a terminal's cursor or change its state."""
    instead = "\N{REPLACEMENT CHARACTER}"
    return "".join(instead if unicodedata.category(one) == "Cc" and one not in "\n\t" else one for one in text)
