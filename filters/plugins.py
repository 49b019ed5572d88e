"""Other people's code: modules of installed distributions that register signals, readers or extractors.

A recipe is data and runs no code, with one exception that has to be spelt out: it may name a module in `plugins`, or
something that an installed distribution announces as an entry point. Such a module is imported only if the file that
Python would run belongs to an installed distribution: its RECORD lists the file, or the distribution was installed
editable from a folder above it. Distributions are looked for on Python's path without the current directory. So what
merely lies beside a recipe, in the current directory or among data is refused, also where it has the name of something
installed and Python would find it first.

What a plugin computes depends on its code, which `plugin_code` names.
"""

import json
import os
import sys
import traceback
from functools import cache
from importlib import import_module
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution, EntryPoint, distributions
from importlib.util import find_spec
from pathlib import Path
from urllib.parse import unquote, urlsplit

OURS = "headrace"


class PluginError(Exception):
    """Other people's code is absent, is not installed, fails at import, or gives one name to two things."""


@cache
def import_plugin(module: str) -> None:
    """Import a module of an installed distribution.

    Raises:
        PluginError: there is no such module, it is not part of an installed distribution, or it fails.
    """
    parts = module.split(".")
    if parts[0] == OURS:
        raise PluginError(f"module {module!r} is Headrace's own, and what it registers is there without being named")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])  # packages first: to look for a module runs the packages around it
        spec = find_module(name, module)
        if spec.origin is not None:  # a namespace package is folders without code
            owner(name, spec.origin)
            _run(name)


def find_module(name: str, wanted: str) -> ModuleSpec:
    """Return where a module lies; raises `PluginError` that names the module that is `wanted` in the end."""
    try:
        spec = find_spec(name)
    except (ImportError, ValueError):
        spec = None
    if spec is None:
        missing = "" if name == wanted else f" ({name!r} is not there)"
        raise PluginError(f"no module {wanted!r} is installed here{missing}; install the package that has it")
    return spec


def _run(name: str) -> None:
    try:
        import_module(name)
    except (Exception, SystemExit) as error:
        raise PluginError(f"module {name!r} fails at import: {_where(error)}{type(error).__name__}: {error}") from error


def _where(error: BaseException) -> str:
    """Return the file and line that a person should look at: of broken syntax, else the last of the traceback."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}, line {error.lineno}: "
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame.filename.startswith("<frozen")]
    frames = [frame for frame in frames if Path(frame.filename).parent != Path(__file__).parent] or frames
    return f"{frames[-1].filename}, line {frames[-1].lineno}: " if frames else ""


def installed_distributions() -> list[Distribution]:
    """Return what is installed on Python's path, the current directory left out; of one name the first."""
    here = Path.cwd()
    return _distributions(tuple(entry for entry in sys.path if entry and Path(entry).resolve() != here))


@cache
def _distributions(path: tuple[str, ...]) -> list[Distribution]:
    found: dict[str, Distribution] = {}
    for distribution in distributions(path=list(path)):
        found.setdefault(_plain_name(distribution), distribution)
    return list(found.values())


@cache
def _entry_points(distribution: Distribution) -> tuple[EntryPoint, ...]:
    return tuple(distribution.entry_points)


def _plain_name(distribution: Distribution) -> str:
    return (distribution.metadata["Name"] or "").lower().replace("_", "-").replace(".", "-")


def owner(module: str, file: str) -> Distribution:
    """Return the installed distribution that a module's file belongs to.

    Raises:
        PluginError: it belongs to none.
    """
    path = Path(os.path.abspath(file))
    for distribution in installed_distributions():
        if _lists(distribution, path) or _is_editable_above(distribution, path):
            return distribution
    raise PluginError(
        f"module {module!r} would be run from {path}, which belongs to no installed distribution, and a recipe runs no "
        "code that merely lies somewhere; give it a pyproject.toml and pip install it (--editable is enough)"
    )


def _lists(distribution: Distribution, path: Path) -> bool:
    base = Path(os.path.abspath(str(distribution.locate_file(""))))
    if not path.is_relative_to(base):
        return False
    inside = path.relative_to(base).as_posix()
    record = distribution.read_text("RECORD")  # as text, because `files` would parse ten thousand lines of some
    if record is not None:
        return f"\n{inside}," in f"\n{record}"
    return any(str(file) == inside for file in distribution.files or ())


def _is_editable_above(distribution: Distribution, path: Path) -> bool:
    record = distribution.read_text("direct_url.json")
    origin = json.loads(record) if record else {}
    if not origin.get("dir_info", {}).get("editable"):
        return False
    return path.resolve().is_relative_to(Path(unquote(urlsplit(origin["url"]).path)).resolve())


def announced(group: str) -> dict[str, list[tuple[EntryPoint, Distribution]]]:
    """Return the entry points of a group by name, in alphabetical order; nothing is imported."""
    found: dict[str, list[tuple[EntryPoint, Distribution]]] = {}
    for distribution in installed_distributions():
        for entry in _entry_points(distribution):
            if entry.group == group:
                found.setdefault(entry.name, []).append((entry, distribution))
    return dict(sorted(found.items()))


def announced_module(group: str, name: str) -> str | None:
    """Return the module that an installed distribution announces under a name, None where none does.

    Raises:
        PluginError: two distributions announce that name.
    """
    found = announced(group).get(name, [])
    modules = sorted({entry.module for entry, _ in found})
    if len(modules) > 1:
        who = " and ".join(f"{entry.module} of {distribution.metadata['Name']}" for entry, distribution in found)
        raise PluginError(f"two installed distributions announce {name!r} in {group}: {who}; uninstall one of them")
    return modules[0] if modules else None
