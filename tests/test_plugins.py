"""Plugins: what is installed is found, what merely lies somewhere never runs, and code stands in keys."""

import os
import subprocess
import sys
from collections.abc import Iterator
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from headrace.filters.contract import SIGNALS
from headrace.filters.plugin_code import code_identity
from headrace.filters.plugins import PluginError, import_plugin
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.plugins import plugin_signals
from headrace.pipeline.registry import find_registered
from headrace.pipeline.stages.measure import Measure
from headrace.pipeline.views import make_signal
from tests.commands import headrace
from tests.installing import install
from tests.small_store import RECIPE, build_small

SIGNAL = '''"""A signal of a test."""

from dataclasses import dataclass
from typing import ClassVar

from headrace.filters.contract import Column, register
from headrace.filters.spans import Span


@register
@dataclass(frozen=True)
class Marked:
    """Where a text has a mark."""

    name: ClassVar[str] = "{name}"
    version: ClassVar[int] = 1

    mark: str = "."

    @property
    def columns(self):
        return (Column("num_marks", "int", "marks"), Column("removed", "spans", "the first mark"))

    def resources(self):
        return {{}}

    def measure(self, batch):
        found = [text.encode().find(self.mark.encode()) for text in batch.texts]
        spans = [[Span(at, at + len(self.mark.encode()), "mark")] if at >= 0 else [] for at in found]
        return {{"num_marks": [text.count(self.mark) for text in batch.texts], "removed": spans}}
'''
NUMBER = count()


class Package:
    """A package of a project folder, to be installed into a folder of Python's path; each has a name of its own."""

    def __init__(self, folder: Path) -> None:
        self.name = f"plugin_{next(NUMBER)}"
        self.project, self.site = folder / "project", folder / "site"
        self.site.mkdir(exist_ok=True)
        self.points: dict[str, dict[str, str]] = {}
        self.write("__init__", '"""A package."""\n')

    def write(self, module: str, source: str) -> str:
        path = self.project / self.name / f"{module}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(source)
        return f"{self.name}.{module}"

    def signal(self, module: str, name: str) -> str:
        return self.write(module, SIGNAL.format(name=name))

    def announce(self, group: str, name: str, module: str) -> None:
        self.points.setdefault(group, {})[name] = module

    def install(self, *, editable: bool = False) -> None:
        lines = ["[project]", f'name = "{self.name}"', 'version = "1.2"']
        for group, points in self.points.items():
            lines += [f'[project.entry-points."{group}"]', *(f'{name} = "{at}"' for name, at in points.items())]
        (self.project / "pyproject.toml").write_text("\n".join(lines))
        install(self.project, self.site, editable=editable)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Package]:
    """Return a package that will be found once it is installed; what it registers goes with the test."""
    made = Package(tmp_path)
    monkeypatch.setattr(SIGNALS, "_known", SIGNALS.all())
    monkeypatch.syspath_prepend(str(made.site))
    monkeypatch.setattr("sys.dont_write_bytecode", True)
    yield made
    for name in [name for name in sys.modules if name.partition(".")[0] == made.name]:
        del sys.modules[name]


def test_a_named_module_of_an_installed_package_is_imported(package: Package) -> None:
    module = package.signal("marks", "marks_named")
    package.install()
    assert plugin_signals([module]) == {"marks_named": module}
    assert make_signal("marks_named", {"mark": "!"}, module).version == 1
    with pytest.raises(RecipeError, match="there is no signal 'marks_named'"):
        make_signal("marks_named", {})  # a recipe that does not name the module does not have it
    assert "marks_named" not in SIGNALS.all()


def test_an_editable_install_counts(package: Package, monkeypatch: pytest.MonkeyPatch) -> None:
    module = package.signal("marks", "marks_editable")
    package.install(editable=True)
    monkeypatch.syspath_prepend(str(package.project))
    assert plugin_signals([module]) == {"marks_editable": module}
    assert next(iter(code_identity(SIGNALS._known["marks_editable"]).values())).startswith(
        f"{package.name} 1.2 sha256:"
    )


def test_what_no_distribution_owns_is_refused_unrun(package: Package) -> None:
    module = package.write("marks", "raise SystemExit('it ran')\n")
    (package.project / package.name).rename(package.site / package.name)
    with pytest.raises(PluginError, match=r"belongs to no installed distribution.*pip install it") as caught:
        import_plugin(module)
    assert str(package.site / package.name / "__init__.py") in str(caught.value)
    assert package.name not in sys.modules


def test_a_file_that_was_added_to_an_installed_package_is_refused(package: Package) -> None:
    package.install()
    (package.site / package.name / "later.py").write_text("raise SystemExit('it ran')\n")
    with pytest.raises(PluginError, match="belongs to no installed distribution"):
        import_plugin(f"{package.name}.later")


@pytest.mark.parametrize("fake_install", [False, True])
def test_nothing_in_the_current_directory_runs(package: Package, fake_install: bool, tmp_path: Path) -> None:
    """Neither a module there that has the name of an installed one, nor what claims to be installed there."""
    module = package.signal("marks", "marks_shadowed")
    package.announce("headrace.signals", "marks_shadowed", module)
    if not fake_install:
        package.install()
    here = Package(tmp_path / "here") if (tmp_path / "here").mkdir() is None else package
    here.name, here.points, here.site = package.name, package.points, tmp_path / "here"
    here.write("__init__", "print('it ran')\n")
    here.write("marks", "print('it ran')\n")
    if fake_install:
        here.install()
    else:
        (here.project / here.name).rename(tmp_path / "here" / here.name)
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.site), *filter(None, sys.path)])}
    for words in (["marks_shadowed"], ["marks_shadowed", "--plugin", module]):
        command = [sys.executable, "-m", "headrace", "signals", *words]
        done = subprocess.run(command, cwd=tmp_path / "here", env=env, capture_output=True, text=True)
        assert "it ran" not in done.stdout + done.stderr
        assert done.returncode == 1
        assert "no installed distribution" in done.stderr or "there is no signal" in done.stderr


def test_an_announced_signal_is_found_by_its_name_and_imported_only_then(package: Package) -> None:
    module = package.signal("marks", "marks_announced")
    package.announce("headrace.signals", "marks_announced", module)
    package.install()
    assert "marks_announced" in SIGNALS.names()
    assert module not in sys.modules
    assert make_signal("c4", {}).name == "c4"
    assert module not in sys.modules
    assert make_signal("marks_announced", {}).name == "marks_announced"
    assert plugin_signals([module]) == {"marks_announced": module}  # named and announced: it is the same
    with pytest.raises(RecipeError, match="did you mean 'marks_announced'"):
        make_signal("marks_anounced", {})


def test_readers_and_extractors_are_announced_too(package: Package) -> None:
    from headrace.pipeline.extract import EXTRACTORS, make_extractor
    from headrace.pipeline.readers.contract import READERS, make_reader

    part = '''from dataclasses import dataclass
from headrace.pipeline.{of} import register

@register
@dataclass(frozen=True)
class Made:
    """A part."""
    name, version = "made", 1
    def resources(self):
        return {{}}
'''
    for kind, of in (("readers", "readers.contract"), ("extractors", "extract")):
        package.announce(f"headrace.{kind}", "made", package.write(kind, part.format(of=of)))
    package.install()
    try:
        assert make_reader("made", {}).name == make_extractor("made", {}).name == "made"
        assert list(code_identity(find_registered(READERS, "made"))) == [f"plugin:{package.name}.readers"]
    finally:
        READERS._known.pop("made")
        EXTRACTORS._known.pop("made")


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            "import no_such_library_here\n",
            r"marks\.py, line 1: ModuleNotFoundError: No module named 'no_such_library_here'",
        ),
        ("x = 1\n\nx / 0\n", r"marks\.py, line 3: ZeroDivisionError"),
        ("def f(:\n", r"marks\.py, line 1: SyntaxError"),
        ("raise SystemExit(3)\n", r"marks\.py, line 1: SystemExit: 3"),
        ("x = 1\n", r"it registers no signal; a class becomes one by @register"),
        (SIGNAL.format(name="c4"), r"marks\.py, line 10: ValueError: two signals are called 'c4'"),
    ],
)
def test_a_plugin_that_cannot_be_used_says_where_and_why(package: Package, source: str, message: str) -> None:
    module = package.write("marks", source)
    package.install()
    with pytest.raises(RecipeError, match=message) as caught:
        plugin_signals([module])
    assert f"plugins = [..., '{module}']" in str(caught.value)
    assert "c4" in SIGNALS.all()


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (
            "nowhere_at_all.signals",
            r"no module 'nowhere_at_all.signals' is installed here \('nowhere_at_all' is not there\)",
        ),
        ("headrace.filters.signals.c4", "is Headrace's own"),
        ("json.encoder", "belongs to no installed distribution"),
    ],
)
def test_a_module_that_cannot_be_a_plugin_is_refused(module: str, message: str) -> None:
    with pytest.raises(PluginError, match=message):
        import_plugin(module)


def test_two_packages_cannot_announce_one_name(package: Package, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = Package(tmp_path / "other")
    other.site = package.site
    for one in (package, other):
        one.announce("headrace.signals", "marks_twice", one.signal("marks", "marks_twice"))
        one.install()
    with pytest.raises(
        RecipeError, match=f"two installed distributions announce 'marks_twice'.*{package.name}"
    ) as caught:
        make_signal("marks_twice", {})
    assert other.name in str(caught.value)
    with pytest.raises(RecipeError, match="two"):
        plugin_signals([f"{package.name}.marks"])


def test_an_announcement_that_is_not_kept_is_named(package: Package) -> None:
    package.announce("headrace.signals", "marks_promised", package.signal("marks", "marks_other"))
    package.announce("headrace.signals", "c4", package.signal("rival", "c4_rival"))
    package.install()
    with pytest.raises(RecipeError, match="registers marks_other: mend its entry points"):
        make_signal("marks_promised", {})
    assert type(make_signal("c4", {})).__module__ == "headrace.filters.signals.c4"
    listed = {item["name"]: item for item in headrace("signals", "--json").json["signals"]}
    assert "mend its entry points" in listed["marks_promised"]["error"]
    assert listed["c4"]["columns"]


# ------------------------------------------------------------------------------------------------------ code in keys


def identity_of(package: Package, module: str) -> str:
    """Return what a fresh process calls the code, so that nothing is remembered."""
    code = f"from headrace.filters.plugin_code import _identity; print(_identity({module!r}))"
    env = os.environ | {"PYTHONPATH": os.pathsep.join([str(package.site), *filter(None, sys.path)])}
    return subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=True).stdout


def test_a_changed_helper_changes_the_identity_and_a_neighbour_does_not(package: Package) -> None:
    module = package.write("marks", f"from . import near\nfrom {package.name}.deep.far import x\n")
    package.write("near", "def f():\n    from .lazy import y\n")
    package.write("lazy", "y = 1\n")
    package.write("deep/__init__", "")
    package.write("deep/far", "from ..last import z\nx = 1\n")
    package.write("last", "z = 1\ndef never():\n    from . import broken\n")
    package.write("broken", "def f(:\n")
    package.write("neighbour", "n = 1\n")
    package.install()
    before = identity_of(package, module)
    for helper in ("neighbour", "added"):
        package.write(helper, "n = 2\n")
        package.install()
        assert identity_of(package, module) == before
    seen = {before}
    for helper in ("near", "lazy", "deep/__init__", "deep/far", "last", "__init__", "marks"):
        path = package.project / package.name / f"{helper}.py"
        path.write_text(path.read_text() + "# changed\n")
        package.install()
        seen.add(identity_of(package, module))
    assert len(seen) == 8


def test_the_code_of_a_plugin_stands_in_the_key_of_what_it_measured(package: Package) -> None:
    module = package.signal("marks", "marks_keyed")
    package.install()
    resources = Measure(signal="marks_keyed", plugin=module).resources()
    assert resources["signal:marks_keyed"] == "1"
    assert resources[f"plugin:{module}"].startswith(f"{package.name} 1.2 sha256:")
    assert not [key for key in Measure(signal="c4").resources() if key.startswith("plugin:")]


def test_keys_from_before_plugins_are_what_they_were() -> None:
    config = Measure(signal="c4", view="raw").model_dump(mode="json", by_alias=True)
    assert config == {"signal": "c4", "options": {}, "view": "raw"}
    assert Measure(signal="x", plugin="a.b").model_dump(mode="json")["plugin"] == "a.b"


def test_a_recipe_measures_by_a_plugin_and_on_its_view(package: Package, tmp_path: Path) -> None:
    module = package.signal("marks", "marks_recipe")
    package.install()
    text = RECIPE.replace('name = "small"\n', f'name = "small"\nplugins = ["{module}"]\n', 1)
    text = text.replace('"gopher_quality", "c4"', '"gopher_quality", "c4", "marks_recipe"', 1)
    text = text.replace('view = "c4"', 'view = "marks_recipe"').replace("@c4", "@marks_recipe")
    text = text.replace('edits = ["c4.removed"', 'edits = ["marks_recipe.removed"')
    built = build_small(tmp_path / "build", text)
    measured: dict[str, Any] = built.manifests["signals:marks_recipe"].config
    assert (measured["plugin"], measured["signal"]) == (module, "marks_recipe")
    assert "signals:fineweb@marks_recipe" in built.manifests
    assert built.corpus.rows
    with pytest.raises(RecipeError, match="there is no signal 'marks_recipe'"):
        build_small(tmp_path / "build", text.replace(f'plugins = ["{module}"]\n', ""))


@pytest.mark.parametrize("module", ["../evil", "evil.py/", "a b", "", "/abs/path", "pkg."])
def test_a_plugin_is_named_as_a_module_not_as_a_file(module: str, tmp_path: Path) -> None:
    with pytest.raises(RecipeError, match=r"small.toml: plugins\.0"):
        build_small(tmp_path, RECIPE.replace('name = "small"\n', f'name = "small"\nplugins = ["{module}"]\n', 1))
