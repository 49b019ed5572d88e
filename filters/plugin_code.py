"""What names the code of a plugin in keys: its distribution, version, and a digest of the files that it is made of.

These are the file of the module, the packages around it, and every module of its outermost package that it imports,
directly or through others, wherever in the file the import stands. So a changed helper changes the key, and a new
signal in the same package does not change the keys of the others. Imports are read from the source and followed on
disk; nothing is run. What the source does not show (a module imported by a made-up name, a data file, another
distribution) belongs into `resources()`.
"""

import ast
from collections.abc import Iterator
from functools import cache
from hashlib import sha256
from importlib.machinery import EXTENSION_SUFFIXES, SOURCE_SUFFIXES
from pathlib import Path

from headrace.filters.plugins import OURS, PluginError, find_module, owner


def code_identity(item: object) -> dict[str, str]:
    """Return what names the code of a registered class; empty for Headrace's own, whose versions are declared.

    Raises:
        PluginError: the code belongs to no installed distribution.
    """
    module = str(getattr(item, "__module__", ""))
    return {} if module.partition(".")[0] == OURS else {f"plugin:{module}": _identity(module)}


@cache
def _identity(module: str) -> str:
    """Return distribution, version and digest; remembered, because what was imported is, too."""
    package, file = _outermost(module)
    distribution = owner(package, str(file))
    name = f"{distribution.metadata['Name']} {distribution.version}"
    total = sha256()
    for part, path in sorted(source_files(module, package, file).items()):
        total.update(f"{part}\n{sha256(path.read_bytes()).hexdigest()}\n".encode())
    return f"{name} sha256:{total.hexdigest()}"


def _outermost(module: str) -> tuple[str, Path]:
    """Return the outermost package around a module that is more than a folder, or the module itself, and its file."""
    parts = module.split(".")
    for depth in range(1, len(parts) + 1):
        name = ".".join(parts[:depth])
        origin = find_module(name, module).origin
        if origin is not None:
            return name, Path(origin)
    raise PluginError(f"module {module!r} has no file")


def source_files(module: str, package: str, file: Path) -> dict[str, Path]:
    """Return the files that a module is made of by the names of their modules; `file` is that of `package`."""
    found: dict[str, Path] = {}
    waiting = [module]
    while waiting:
        parts = waiting.pop().split(".")
        for name in (".".join(parts[: depth + 1]) for depth in range(len(parts))):
            path = _file_of(name, package, file)
            if path is not None and name not in found:
                found[name] = path
                waiting += _imported(name, path)
    return found


def _file_of(name: str, package: str, file: Path) -> Path | None:
    """Return the file of a module within a package, None where it has none."""
    if name == package:
        return file
    if file.stem != "__init__" or not name.startswith(f"{package}."):
        return None
    inside = file.parent.joinpath(*name[len(package) + 1 :].split("."))
    suffixes = [*SOURCE_SUFFIXES, *EXTENSION_SUFFIXES]
    places = [inside / f"__init__{suffix}" for suffix in suffixes] + [Path(f"{inside}{suffix}") for suffix in suffixes]
    return next((path for path in places if path.is_file()), None)


def _imported(name: str, path: Path) -> Iterator[str]:
    """Yield every name that a source file imports and that may be a module."""
    if not path.name.endswith(tuple(SOURCE_SUFFIXES)):
        return
    try:
        tree = ast.parse(path.read_bytes())
    except (SyntaxError, ValueError):  # of a helper that was never run: its digest counts all the same
        return
    around = name.split(".") if path.stem == "__init__" else name.split(".")[:-1]
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = around[: len(around) + 1 - node.level] if node.level else []
            origin = ".".join([*base, *([node.module] if node.module else [])])
            yield origin
            yield from (f"{origin}.{alias.name}" for alias in node.names)
