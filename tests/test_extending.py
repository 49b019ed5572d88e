"""`docs/extending.md` as a script: its files are written, its commands run, from top to bottom."""

import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pyarrow.parquet as pq
import pytest

from headrace.filters import laws
from headrace.filters.contract import SIGNALS
from headrace.pipeline.artifacts import Planned, make
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.stages.contract import Planning, stage_classes
from headrace.trainer.objectives.contract import OBJECTIVES, objectives
from tests.installing import install
from tests.small_store import build_small
from tests.tiny_stream import TinyStream

PAGE = Path(__file__).parents[1] / "docs" / "extending.md"
_BLOCK = re.compile(
    r"(?:^`(?P<path>[^`\n]+)`(?P<added>, at its end)?:\n\n)?^```(?P<kind>\w*)\n(?P<body>.*?)^```$",
    re.MULTILINE | re.DOTALL,
)
NOTES = {
    "calm": "A calm note: the mill stands by the river, and it has been there for a very long time indeed.\n" * 3,
    "loud": "LOUD NOTE: THE MILL STANDS BY THE RIVER AND IT HAS BEEN THERE FOR LONG.\n" * 3,
    "short": "Ah.\n\n",
}


class Step(NamedTuple):
    """One block of the page: a file, or commands."""

    path: str | None
    added: bool
    body: str

    @property
    def commands(self) -> list[str]:
        return [line.removeprefix("$ ") for line in self.body.splitlines()] if self.path is None else []


def steps() -> Iterator[Step]:
    for block in _BLOCK.finditer(PAGE.read_text(encoding="utf-8")):
        assert (block["path"] is None) == (block["kind"] == "console"), block[0]
        yield Step(block["path"], bool(block["added"]), block["body"])


class Folder:
    """A folder in which the page is followed."""

    def __init__(self, path: Path) -> None:
        self.path, self.site = path, path / "site"
        (path / "notes").mkdir()
        for name, text in NOTES.items():
            (path / "notes" / f"{name}.txt").write_text(text)
        self.out: dict[str, str] = {}

    def follow(self, step: Step) -> None:
        if step.path is None:
            for command in step.commands:
                self.run(command)
            return
        target = self.path / step.path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text((target.read_text() if step.added else "") + step.body, encoding="utf-8")

    def run(self, command: str) -> str:
        words = shlex.split(command)
        if words[:2] == ["pip", "install"]:
            assert "--editable" in words
            install(self.path / words[-1], self.site, editable=True)
            return ""
        first = {"headrace": [sys.executable, "-m", "headrace"], "python": [sys.executable]}[words[0]]
        linked = [path.read_text().strip() for path in self.site.glob("*.pth")]  # as `site` does at start
        env = os.environ | {"PYTHONPATH": os.pathsep.join([str(self.site), *linked, *filter(None, sys.path)])}
        env |= {"PYTHONDONTWRITEBYTECODE": "1", "PYTEST_ADDOPTS": "-p no:cacheprovider -o timeout=300"}
        done = subprocess.run([*first, *words[1:]], cwd=self.path, env=env, capture_output=True, text=True)
        assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
        self.out[command] = done.stdout
        return done.stdout

    def output(self, beginning: str) -> str:
        (found,) = [out for command, out in self.out.items() if command.startswith(beginning)]
        return found

    def kept(self, recipe: str) -> list[str]:
        built = json.loads(self.run(f"headrace build {recipe} --store store --source notes='notes/*.txt' --json"))
        parts = Path(self.path, built["manifest"]).parent.glob("*.parquet")
        return sorted(text for part in parts for text in pq.read_table(part).column("text").to_pylist())


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Folder:
    followed = Folder(tmp_path_factory.mktemp("extending"))
    for step in steps():
        followed.follow(step)
    return followed


def test_the_page_has_files_and_commands() -> None:
    paths = [step.path for step in steps() if step.path]
    assert "corpus-signals/corpus_signals/shouting.py" in paths
    assert sum(len(step.commands) for step in steps()) >= 10


def test_the_signal_is_shown_and_drops_what_shouts(folder: Folder) -> None:
    assert "shouting.upper_line_frac" in folder.output("headrace signals shouting")
    assert "corpus-signals 0.1" in folder.output("headrace signals shouting")
    assert [text.split()[0] for text in folder.kept("quiet.toml")] == ["A", "Ah."]


def test_another_threshold_measures_nothing(folder: Folder) -> None:
    lines = {line.split("  ")[0]: line for line in folder.output("headrace plan").splitlines()}
    assert "made before" in lines["measure shouting"]
    assert "max 0.1 -> 0.5" in lines["rules 2"]


def test_readers_and_extractors_of_a_package(folder: Folder) -> None:
    lines = {line for text in NOTES.values() for line in text.splitlines() if line}  # equal lines are one record
    assert folder.kept("lines.toml") == sorted(line.partition(": ")[2] or line for line in lines)


def test_an_edited_plugin_measures_again_and_says_why(folder: Folder) -> None:
    file = folder.path / "corpus-signals" / "corpus_signals" / "counting.py"
    plan = "headrace plan plugins.toml --store store --source notes='notes/*.txt'"
    assert "everything is there" in folder.run(plan)
    file.write_text(file.read_text() + "# changed\n")
    assert "resources: plugin:corpus_signals.counting" in folder.run(plan)


def test_workers_have_the_plugin_too(folder: Folder) -> None:
    """Many small tasks, so that a pool is started."""
    notes = folder.path / "many"
    notes.mkdir()
    for number in range(4):
        (notes / f"{number}.txt").write_text(f"{number}\n" + "A longer text than a task should have. " * 60_000)
    recipe = folder.path / "many.toml"
    text = (folder.path / "plugins.toml").read_text().replace('"plugins"', '"many"')
    recipe.write_text(text + "\n[sharding]\ntask_mebibytes = 1\n")
    out = folder.run("headrace build many.toml --store store --source notes='many/*.txt' --workers 2 --json")
    assert json.loads(out)["rows"] == 4


# -------------------------------------------------------------------------------------------- files of the tree itself


@pytest.fixture
def in_tree(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[str], None]:
    """Return what puts a file of the page into a package, as if it lay there."""
    bodies = {step.path: step.body for step in steps()}

    def put(path: str, package: str) -> None:
        name = Path(path).stem
        (tmp_path / Path(path).name).write_text(bodies[path])
        monkeypatch.setattr(import_module(package), "__path__", [*import_module(package).__path__, str(tmp_path)])
        monkeypatch.delitem(sys.modules, f"{package}.{name}", raising=False)

    return put  # type: ignore[return-value]  # of two arguments


def test_a_signal_in_the_tree_is_the_same_file(in_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(SIGNALS, "_known", SIGNALS.all())  # so that what is added goes again
    in_tree("corpus-signals/corpus_signals/shouting.py", "headrace.filters.signals")
    signal = SIGNALS.all()["shouting"]()
    for law in laws.LAWS:
        if law is not laws.check_other_process:  # which has no such file
            law(signal)


def test_an_objective(in_tree: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(OBJECTIVES, "_known", OBJECTIVES.all())
    in_tree("trainer/objectives/second_half.py", "headrace.trainer.objectives")
    batch = TinyStream().batch(4)
    inputs, targets, weights, *_ = objectives()["second_half"]().ask(batch, 0)
    half = batch.tokens.shape[1] // 2
    assert weights[:, half:].any()
    assert not weights[:, :half].any()
    assert inputs.shape == targets.shape


def test_a_stage(in_tree: Callable[..., None], tmp_path: Path) -> None:
    in_tree("pipeline/stages/halve.py", "headrace.pipeline.stages")
    built = build_small(tmp_path / "build")
    stage = stage_classes()["halve"]()
    planning = Planning(built.store, {"documents": built.manifests["documents"]})
    (manifest,) = make([Planned("halve", stage, tuple(stage.plan(planning)), planning)], InlineEngine())
    assert manifest.rows == built.manifests["documents"].rows // 2
