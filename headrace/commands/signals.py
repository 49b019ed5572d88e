"""`headrace signals`: what can be measured, by which name, with which options."""

import sys
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.console import Console

from headrace.console import Result, as_data, facts, table

if TYPE_CHECKING:
    from headrace.filters.contract import Column

Name = Annotated[str | None, typer.Argument(metavar="[NAME]", help="Show this signal alone, with all about it.")]
Plugins = Annotated[
    list[str] | None,
    typer.Option(
        "--plugin",
        metavar="MODULE",
        help="A module as in the recipe's `plugins`, whose signals to show too. Repeatable.",
    ),
]


def signals(name: Name = None, plugin: Plugins = None) -> Result:
    """List the signals: Headrace's own, those that installed packages announce, and datatrove's filters.

    With a name, show its columns, options, version and what it follows.
    """
    from headrace.filters.contract import SIGNALS
    from headrace.pipeline.plugins import plugin_signals

    modules = plugin_signals(plugin or ())
    if name is not None:
        return _one(describe(name, modules.get(name, "")))
    names = dict.fromkeys([*SIGNALS.names(), *modules])
    return _all([_describe_or_say_why_not(known, modules.get(known, "")) for known in names])


def _describe_or_say_why_not(name: str, module: str) -> dict[str, Any]:
    from headrace.pipeline.errors import RecipeError

    try:
        return describe(name, module)
    except RecipeError as error:  # of one plugin: the others are there all the same
        return {"name": name, "error": str(error)}


def describe(name: str, module: str = "") -> dict[str, Any]:
    """Return all that a person or program may ask about a signal; raises RecipeError where there is none."""
    import inspect
    from dataclasses import MISSING, fields
    from typing import get_type_hints

    from headrace.filters.contract import SIGNALS
    from headrace.pipeline.registry import find_registered

    cls = find_registered(SIGNALS, name, module)
    kinds = get_type_hints(cls)
    options = [
        {"name": item.name, "type": _shown_type(kinds[item.name])}
        | ({} if item.default is MISSING else {"default": as_data(item.default)})
        for item in fields(cls)
    ]
    return {
        "name": name,
        "version": cls.version,
        "what": inspect.getdoc(cls) or "",
        "from": _distribution(cls),
        "module": cls.__module__,
        "source": inspect.cleandoc(sys.modules[cls.__module__].__doc__ or ""),
        "columns": [
            {"id": f"{name}.{column.name}", "kind": column.kind, "doc": column.doc} for column in _columns(cls)
        ],
        "options": options,
    }


def _columns(cls: Any) -> "tuple[Column, ...]":
    from dataclasses import MISSING, fields

    try:
        signal = cls()
    except TypeError:  # it has options without defaults, which its columns hardly depend on: at most a doc names one
        signal = object.__new__(cls)
        for item in fields(cls):
            if item.default is MISSING:
                object.__setattr__(signal, item.name, f"<{item.name}>")
    columns: tuple[Column, ...] = signal.columns
    return columns


def _distribution(cls: type[Any]) -> str:
    """Return the distribution that the signal's code comes with, and its version."""
    from importlib.metadata import version

    from headrace.filters.plugin_code import code_identity

    identity = next(iter(code_identity(cls).values()), f"headrace {version('headrace')}")
    return identity.partition(" sha256:")[0]


def _shown_type(kind: Any) -> str:
    return (
        kind.__name__ if isinstance(kind, type) and not hasattr(kind, "__args__") else str(kind).replace("typing.", "")
    )


def _one(data: dict[str, Any]) -> Result:
    def show(console: Console) -> None:
        console.print(facts({key: data[key] for key in ("name", "version", "what", "from", "module")}))
        console.print()
        console.print(table(("column", "kind", "what"), [tuple(column.values()) for column in data["columns"]]))
        if data["options"]:
            rows = [
                (item["name"], item["type"], repr(item["default"]) if "default" in item else "must be given")
                for item in data["options"]
            ]
            console.print()
            console.print(table(("option", "type", "default"), rows))
        console.print()
        console.print(data["source"])

    return Result(data, show)


def _all(data: list[dict[str, Any]]) -> Result:
    def show(console: Console) -> None:
        rows = [
            (item["name"], str(item["version"]), len(item["columns"]), item["from"], item["what"].partition("\n")[0])
            for item in data
            if "error" not in item
        ]
        console.print(table(("signal", "version", "columns", "from", "what"), rows))
        for item in data:
            if "error" in item:
                console.print(f"{item['name']}: cannot be used: {item['error']}")

    return Result({"signals": data}, show)
