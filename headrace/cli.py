"""The command line: one module a family of commands, imported at start; what they need is imported when they run."""

import json
import sys
from collections.abc import Sequence

import typer

from headrace.commands import COMMANDS, GROUPS
from headrace.console import command

HELP = """From crawl to loss and back: curate text, train on it, and trace every token to its bytes."""


def make_app() -> typer.Typer:
    """Return the parser with all commands."""
    app = typer.Typer(
        name="headrace", help=HELP, no_args_is_help=True, add_completion=False, pretty_exceptions_enable=False
    )
    groups: dict[str, typer.Typer] = {}
    for name, function in COMMANDS.items():
        group, _, own = name.rpartition(" ")
        if group and group not in groups:
            groups[group] = typer.Typer(no_args_is_help=True)
            app.add_typer(groups[group], name=group, help=GROUPS[group])
        groups.get(group, app).command(own)(command(function))
    return app


def run(arguments: Sequence[str]) -> int:
    """Run one command line; return its exit status (2: it cannot be understood, the others as in `console`)."""
    try:
        status = typer.main.get_command(make_app()).main(list(arguments), prog_name="headrace", standalone_mode=False)
    except Exception as error:
        if not hasattr(error, "show"):  # commands end their own errors; what is left are the parser's
            raise
        error.show()
        if "--json" in arguments:
            print(json.dumps({"error": str(error), "kind": "UsageError"}, ensure_ascii=False), flush=True)
        return int(getattr(error, "exit_code", 2))
    return int(status or 0)


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))
