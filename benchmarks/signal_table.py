"""Which signals are there, and whom do they follow? `python -m benchmarks.signal_table [--write]`.

Prints the table of `docs/signals.md`, a row for each registered signal, as made without options; `--write` puts it
between the page's marks. Papers and tools are those that the docstring of the signal's module names.
"""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from headrace.commands.signals import describe
from headrace.filters.contract import signal_classes

PAGE = Path(__file__).parents[1] / "docs" / "signals.md"
BEGIN, END = "<!-- signals: begin -->\n", "<!-- signals: end -->\n"
TOOLS = (
    *("datatrove 0.10.1", "mlfoundations/dclm", "togethercomputer/RedPajama-Data", "CCNet", "spaCy", "lid.176"),
    *("GlotLID", "OpenLID", "resiliparse", "fastText", "phonenumbers", "python-stdnum", "ONNX", "KenLM", "ftfy", "ICU"),
)
_ARXIV = re.compile(r"arXiv:(\d{4}\.\d{4,5})")


def followed(source: str) -> Iterator[str]:
    """Yield the papers and tools that a docstring names."""
    for number in dict.fromkeys(_ARXIV.findall(source)):
        yield f"[arXiv:{number}](https://arxiv.org/abs/{number})"
    yield from (tool for tool in TOOLS if tool in source)


def row(signal: dict[str, Any]) -> str:
    """Return a signal as a row of the table."""
    columns = ", ".join(f"`{column['id'].partition('.')[2]}`" for column in signal["columns"])
    what, _, _ = signal["what"].partition("\n")
    return f"| `{signal['name']}` | {what} | {columns} | {', '.join(followed(signal['source'])) or 'our own'} |"


def table() -> str:
    """Return the table of all registered signals."""
    rows = [row(describe(name)) for name in sorted(signal_classes())]
    return "\n".join(["| signal | what it measures | columns | follows |", "|---|---|---|---|", *rows, ""])


def main(arguments: list[str]) -> None:
    """Print the table, or write it into the page."""
    if "--write" not in arguments:
        print(table(), end="")
        return
    page = PAGE.read_text(encoding="utf-8")
    before, _, rest = page.partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(f"{before}{BEGIN}{table()}{END}{after}", encoding="utf-8")


if __name__ == "__main__":
    main(sys.argv[1:])
