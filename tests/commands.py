"""The command line as tests call it: in this process where words and status are all, else in one of its own."""

import contextlib
import io
import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from headrace.cli import run
from tests.making import article, make_crawl, page, write_recipe, write_warc

HEADRACE = [sys.executable, "-m", "headrace"]


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        """The one object on stdout."""
        assert self.out.count("\n") == 1, self.out
        return json.loads(self.out)


def headrace(*words: object) -> Ran:
    """Run a command in this process."""
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = run([str(word) for word in words])
    return Ran(status, out.getvalue(), err.getvalue())


def spawn(
    *words: object, limit: Callable[[], None] | None = None, cwd: Path | None = None, timeout: float = 120
) -> Ran:
    """Run a command in a process of its own; `limit` is called in it first."""
    done = subprocess.run(
        [*HEADRACE, *map(str, words)],
        capture_output=True,
        text=True,
        timeout=timeout,
        preexec_fn=limit,
        cwd=cwd,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def start(*words: object) -> "subprocess.Popen[str]":
    """Start a command in a process group of its own, as a shell does."""
    return subprocess.Popen(
        [*HEADRACE, *map(str, words)],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=dict(os.environ),
    )


def build_words(folder: Path, store: str = "store") -> list[str]:
    """Return the words that build the small recipe of a folder made by `small_crawl`."""
    return [
        "build",
        str(folder / "small.toml"),
        "--store",
        str(folder / store),
        "--source",
        f"web={folder}/crawl/*.warc*",
        "--workers",
        "1",
    ]


def small_crawl(folder: Path) -> Path:
    """Write a crawl of three small files and the recipe for it; return the folder."""
    make_crawl(folder / "crawl")
    write_recipe(folder)
    return folder


def large_crawl(folder: Path, num_files: int = 5, num_pages: int = 250) -> Path:
    """Write a crawl that makes a task a file and takes some seconds to build, and the recipe; return the folder."""
    for number in range(num_files):
        pages = [
            (f"https://example.org/{number}/{index}", page(f"Page {index}", article(1000 * number + index)))
            for index in range(num_pages)
        ]
        write_warc(folder / "crawl" / f"crawl-{number}.warc", pages, compress=False)
    write_recipe(folder)
    return folder
