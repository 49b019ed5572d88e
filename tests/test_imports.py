"""Imports go one way: headrace -> trainer -> pipeline -> filters. Read from the source, and from a wheel outside it."""

import ast
import os
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
LAYERS = ("filters", "pipeline", "trainer", "headrace")
"""Each may import itself and what stands before it."""

NETWORK = ("requests", "urllib.request", "http", "socket", "ssl", "aiohttp", "httpx", "fsspec", "s3fs")
ARROW_IO = ("pyarrow.parquet", "pyarrow.fs", "pyarrow.dataset", "pyarrow.ipc", "pyarrow.csv", "pyarrow.json")
FORBIDDEN = {"filters": ("torch", *ARROW_IO, *NETWORK), "pipeline": ("torch",), "trainer": (), "headrace": ()}

TRAINER_TAKES = {
    "artifacts",
    "build",
    "engines",
    "packing",
    "prefixes",
    "remote.chunks",
    "remote.files",
    "remote.folder",
    "remote.mirror",
    "remote.ranges",
    "serving",
    "errors",
    "hashing",
    "schema",
    "split",
    "stages.stream_index",
    "store",
    "strict_toml",
    "suppressions",
    "takedown",
    "record_files",
    "registry",
    "tables",
    "vocabulary",
    "work",
}
"""Of the pipeline, the trainer takes manifests, stores here or elsewhere, schema and engines; never readers, extraction
or filters (of those it takes how kernels are compiled, and how libraries are missed)."""

TAKEN_FILTERS = ("headrace.filters.kernels", "headrace.filters.libraries")
REGISTRIES = (
    "filters/signals",
    "pipeline/readers",
    "pipeline/extractors",
    "trainer/objectives",
    "trainer/evaluation/kinds",
    "trainer/evaluation/metrics",
)


def sources() -> Iterator[tuple[str, Path]]:
    """Yield each module of ours by its import name."""
    for layer in LAYERS:
        folder = ROOT / layer
        linked = tuple(path for path in folder.iterdir() if path.is_symlink())
        for path in sorted(
            path for path in folder.rglob("*.py") if not any(path.is_relative_to(link) for link in linked)
        ):
            inside = path.relative_to(folder).with_suffix("").parts
            package = () if layer == "headrace" else (layer,)
            yield ".".join(("headrace", *package, *inside)).removesuffix(".__init__"), path


MODULES = dict(sources())


def imported(name: str, path: Path) -> set[str]:
    """Return every module that a file may import, at whatever depth and under whatever condition."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"), str(path))):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            package = name if path.name == "__init__.py" else name.rpartition(".")[0]
            base = ".".join(package.split(".")[: len(package.split(".")) + 1 - node.level]) if node.level else ""
            module = ".".join(filter(None, (base, node.module)))
            found.add(module)
            found |= {f"{module}.{alias.name}" for alias in node.names}
    return found


def layer_of(module: str) -> str | None:
    """Return the layer that a module belongs to, None for other people's and for the bare package."""
    first, _, rest = module.partition(".")
    if first != "headrace" or not rest:
        return None
    second = rest.partition(".")[0]
    return second if second in LAYERS else "headrace" if f"headrace.{second}" in MODULES else None


def names(module: str, forbidden: str) -> bool:
    return module == forbidden or module.startswith(forbidden + ".")


@pytest.mark.parametrize("name", MODULES)
def test_imports_go_one_way(name: str) -> None:
    here = LAYERS.index(layer_of(name) or "headrace")
    for module in imported(name, MODULES[name]):
        other = layer_of(module)
        assert other is None or LAYERS.index(other) <= here, f"{name} imports {module}"
        assert module.partition(".")[0] not in LAYERS[:3], f"{name} imports {module}; its name is headrace.{module}"


@pytest.mark.parametrize("name", MODULES)
def test_no_layer_takes_what_is_not_its_own(name: str) -> None:
    for forbidden in FORBIDDEN[layer_of(name) or "headrace"]:
        assert not [module for module in imported(name, MODULES[name]) if names(module, forbidden)]


@pytest.mark.parametrize("name", [name for name in MODULES if layer_of(name) == "trainer"])
def test_the_trainer_takes_manifests_and_little_else(name: str) -> None:
    for module in imported(name, MODULES[name]):
        known = any(names(module, taken) or names(taken, module) for taken in TAKEN_FILTERS)
        assert layer_of(module) != "filters" or known, module
        if layer_of(module) == "pipeline":
            inside = module.removeprefix("headrace.pipeline").removeprefix(".")
            assert not inside or any(names(inside, taken) or names(taken, inside) for taken in TRAINER_TAKES), (
                f"{name} imports {module}"
            )


def is_leaf(path: Path) -> bool:
    """Tell whether a module registers something."""
    nodes = ast.walk(ast.parse(path.read_text(encoding="utf-8")))
    decorated = [node for node in nodes if isinstance(node, ast.ClassDef | ast.FunctionDef)]
    decorators = [decorator for node in decorated for decorator in node.decorator_list]
    called = [decorator.func if isinstance(decorator, ast.Call) else decorator for decorator in decorators]
    return any(isinstance(node, ast.Name) and node.id == "register" for node in called)


@pytest.mark.parametrize("registry", REGISTRIES)
def test_leaves_of_a_registry_do_not_import_each_other(registry: str) -> None:
    package = f"headrace.{registry.replace('/', '.')}."
    leaves = [name for name, path in MODULES.items() if name.startswith(package) and is_leaf(path)]
    assert leaves
    for leaf in leaves:
        others = {other for other in leaves if other != leaf}
        found = [m for m in imported(leaf, MODULES[leaf]) if any(names(m, other) for other in others)]
        assert not found, f"{leaf} imports {found}"


def run_python(code: str, **environment: str) -> str:
    """Run code in a fresh interpreter outside the repository; return what it prints."""
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        capture_output=True,
        text=True,
        cwd="/",
        env=os.environ | environment,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


@pytest.mark.parametrize(("layer", "forbidden"), [("filters", ("torch", "pyarrow.parquet")), ("pipeline", ("torch",))])
def test_importing_a_layer_loads_nothing_forbidden(layer: str, forbidden: tuple[str, ...]) -> None:
    modules = [name for name in MODULES if layer_of(name) == layer]
    code = f"import sys, importlib\nfor name in {modules}: importlib.import_module(name)\n"
    assert run_python(code + f"print([name for name in {forbidden} if name in sys.modules])") == "[]"


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the wheel with the tools that are installed here."""
    for tool in ("build", "hatchling"):
        pytest.importorskip(tool, reason=f"building a wheel needs {tool}")
    folder = tmp_path_factory.mktemp("wheel")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(folder), str(ROOT)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    (path,) = folder.glob("*.whl")
    return path


def test_the_wheel_holds_headrace_and_nothing_else(wheel: Path) -> None:
    held = {Path(name) for name in zipfile.ZipFile(wheel).namelist()}
    assert {path.parts[0] for path in held if not path.parts[0].endswith(".dist-info")} == {"headrace"}
    assert not [path for path in held if {"tests", "benchmarks"} & set(path.parts)]
    assert not [path for path in held if path.suffix == ".pyc" or "__pycache__" in path.parts]


def test_the_wheel_holds_every_module_and_the_recipes(wheel: Path) -> None:
    held = set(zipfile.ZipFile(wheel).namelist())
    data = [
        p
        for folder in ("filters", "manifests")
        for suffix in ("json", "toml")
        for p in (ROOT / folder).rglob(f"*.{suffix}")
    ]
    ours = {path.relative_to(ROOT) for path in (*MODULES.values(), *data)}
    expected = {path.as_posix() if path.parts[0] == "headrace" else f"headrace/{path.as_posix()}" for path in ours}
    assert not expected - held


def test_the_wheel_works_outside_the_repository(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    code = "import headrace.pipeline.recipe as r; print(r.__file__); print(*r.builtin_recipes())"
    place, _, recipes = run_python(code, PYTHONPATH=str(tmp_path)).partition("\n")
    assert Path(place).is_relative_to(tmp_path)
    assert recipes.split() == sorted(path.stem for path in (ROOT / "manifests/recipes").glob("*.toml"))
