"""Law 4: a build that is killed at any moment and started again gives what an undisturbed one gives."""

import json
import random
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import pytest

from headrace.pipeline.verify import verify
from tests.making import make_crawl, write_recipe


def build_command(recipe: Path, store: Path, crawl: Path) -> list[str]:
    glob = f"web={crawl}/*.warc.gz"
    return [
        sys.executable,
        "-m",
        "headrace",
        "build",
        str(recipe),
        "--store",
        str(store),
        "--source",
        glob,
        "--workers",
        "2",
        "--json",
    ]


def finish(command: list[str]) -> dict[str, object]:
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    result: dict[str, object] = json.loads(done.stdout)
    return result


@dataclass(frozen=True)
class Calm:
    """An undisturbed build: its inputs, what it printed, how long it took."""

    crawl: Path
    recipe: Path
    result: dict[str, object]
    seconds: float


@pytest.fixture(scope="module")
def calm(tmp_path_factory: pytest.TempPathFactory) -> Calm:
    folder = tmp_path_factory.mktemp("calm")
    crawl, recipe = make_crawl(folder / "crawl", num_files=4, pages_per_file=40), write_recipe(folder)
    started = time.monotonic()
    result = finish(build_command(recipe, folder / "store", crawl))
    return Calm(crawl, recipe, result, time.monotonic() - started)


@pytest.mark.parametrize("seed", [1, 2])
def test_sigkill_at_random_moments(calm: Calm, tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)
    command = build_command(calm.recipe, tmp_path / "killed", calm.crawl)
    for _ in range(3):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(rng.uniform(0.3, 1.0) * calm.seconds)
        process.kill()
        process.wait()
    result = finish(command)
    same = ("content", "rows", "tokens")
    assert {key: result[key] for key in same} == {key: calm.result[key] for key in same}
    assert verify(tmp_path / "killed").ok
