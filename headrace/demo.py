"""The demo: the whole way, from bytes of a crawl to a loss and back, on pages that this machine serves to itself.

Every step leaves a file or folder that the next one reads, under its final name only when it is whole; what is there is
used, so a demo that was stopped goes on, and a second one only looks. The numbers of the run are fixed: it takes about
a minute on two cores.
"""

import os
import shlex
import shutil
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from headrace.console import stderr

if TYPE_CHECKING:
    from headrace.pipeline.build import Built
    from headrace.trainer.stream import Stream
    from headrace.trainer.trace import Traced
    from headrace.trainer.train import TrainReport

RECIPE = "demo"
SOURCE = "docs"
STEPS = 500
PROMPT = "Return a new array"
SAMPLE_TOKENS = 120

RUN_FILE = """# A small model on the corpus of the demo. Manifests are named relative to this file.
[run]
name = "demo"
seed = 0
steps = {steps}

[data]
corpora = [{{ tokens = "{tokens}" }}]
sequence_length = 256
global_batch = 8
heldout = 0.05

[model]
size = "1m"

[optimizer]
learning_rate = 5e-3
warmup_steps = 50

[eval]
every = {every}
max_batches = 24

[checkpoint]
every = {every}
keep = 1
"""


@dataclass(frozen=True)
class Demo:
    """What the demo made: `traced` is the batch of the last step, `log` the records with a held-out loss."""

    crawl: Path
    built: "Built"
    run_file: Path
    run: Path
    report: "TrainReport"
    log: Sequence[dict[str, Any]]
    sample: str
    traced: Sequence["Traced"]
    seconds: float


def run_demo(out: Path, workers: int) -> Demo:
    """Crawl, build, train, look back; everything lies under `out`."""
    from headrace.trainer.metrics import read_metrics
    from headrace.trainer.trace import trace

    started = time.monotonic()
    out.mkdir(parents=True, exist_ok=True)
    crawl = make_crawl(out)
    built = build_corpus(out, crawl, workers)
    run_file, run = write_run(out, built)
    report, stream = train_model(run_file, run)
    sample = draw_sample(report, stream)
    log = [record for record in read_metrics(run / "metrics.jsonl") if "eval_loss" in record or record["step"] == 1]
    traced = trace(stream, report.step - 1)
    return Demo(crawl, built, run_file, run, report, log, sample, traced, time.monotonic() - started)


def say(what: str) -> None:
    """Tell on stderr what comes next."""
    stderr().print(what, style="bold")


def make_crawl(out: Path) -> Path:
    """Serve Python's documentation on loopback and crawl it; return the archive."""
    from headrace.pipeline.crawl import CrawlLimits, crawl
    from headrace.progress import counting
    from headrace.pydoc_site import render_site, serving

    site, archive = out / "site", out / "crawl.warc.gz"
    if archive.exists():
        say(f"crawl: {archive} is there")
        return archive
    if not site.exists():
        say("site: rendering a page for each module of Python and of what Headrace depends on")
        render_site(site)
    with serving(site) as url, counting("pages") as count:
        say(f"crawl: {url}")
        report = crawl([url], archive, CrawlLimits(pages=5000, delay_seconds=0), on_page=lambda page: count())
    if report.ended_by != "done":  # a part of the site is a whole file too, but not what the demo goes on with
        archive.unlink()
        raise KeyboardInterrupt
    return archive


def build_corpus(out: Path, crawl: Path, workers: int) -> "Built":
    """Build the recipe `demo` from the archive."""
    from headrace.pipeline.build import build
    from headrace.pipeline.engines import make_engine
    from headrace.pipeline.recipe import load_recipe
    from headrace.pipeline.store import Store
    from headrace.pipeline.walk import BuildOptions
    from headrace.progress import watching

    say(f"build: recipe {RECIPE}")
    store = Store.open(out / "store")
    with watching() as watch:
        return build(load_recipe(RECIPE), store, make_engine(workers), BuildOptions({SOURCE: str(crawl)}), watch=watch)


def write_run(out: Path, built: "Built") -> tuple[Path, Path]:
    """Write the run file; return it and the folder of the run, which is named after its tokens."""
    from headrace.pipeline.store import replace

    tokens = built.manifests["tokens"]
    path = out / "run.toml"
    manifest = Path(built.path("tokens")).relative_to(out.absolute()).as_posix()
    replace(path, RUN_FILE.format(steps=STEPS, every=STEPS // 5, tokens=manifest).encode())
    return path, out / f"run-{tokens.content[:8]}"


def train_model(run_file: Path, out: Path) -> tuple["TrainReport", "Stream"]:
    """Train, or go on training; return how it ended, and the stream."""
    from headrace.commands.train import train_run
    from headrace.trainer.run_config import load_run
    from headrace.trainer.stream import open_stream

    say(f"train: {STEPS} steps of a model with a million parameters")
    run = load_run(run_file).beside(run_file.parent)
    report = train_run(run, out, resume=True)
    if report.interrupted:
        raise KeyboardInterrupt
    return report, open_stream(run.data, run.run.seed)


def draw_sample(report: "TrainReport", stream: "Stream") -> str:
    """Return what the model makes of the prompt."""
    from headrace.trainer.checkpoint import open_checkpoint, restore_model
    from headrace.trainer.completion import complete
    from headrace.trainer.generate import Reader
    from headrace.trainer.sampling import Sampling

    assert report.checkpoint is not None, "a finished run has a checkpoint"
    reader = Reader(restore_model(open_checkpoint(report.checkpoint)).eval())
    vocabulary, context = stream.corpora[0].vocabulary, stream.sequence_length
    sampling = Sampling(temperature=0.7, top_k=40)
    return PROMPT + complete(reader, vocabulary, PROMPT, SAMPLE_TOKENS, sampling, seed=0, context=context).text


def next_commands(demo: Demo) -> list[tuple[str, str]]:
    """Return what to try next: words, and a command that can be pasted."""
    store, source = short(demo.built.store.root), f"{SOURCE}={short(demo.crawl)}"
    change = ["--set", "gopher_quality.num_words.min=300"]
    again = [RECIPE, "--store", store, "--source", source, *change]
    line = _line_of(program())
    return [
        ("the way to the corpus, with samples of what was dropped", line("inspect", short(demo.built.path("corpus")))),
        ("which documents the last batch held", line("trace", short(demo.run), "--step", str(demo.report.step))),
        ("one of them: why it is there, and its bytes again", line("why", *self_named(demo, store))),
        ("more of what the model writes", line("generate", short(demo.run), "--prompt", PROMPT)),
        ("what another threshold would do: nothing is measured again", line("plan", *again)),
        ("do it", line("build", *again)),
        ("hash every byte of the store again", line("verify", store)),
    ]


def self_named(demo: Demo, store: str) -> list[str]:
    """Return the arguments that name a document of the last batch."""
    return [demo.traced[0].doc_id, "--store", store, "--refetch"]


def _line_of(name: str) -> Callable[..., str]:
    return lambda *words: shlex.join([name, *words])


def program() -> str:
    """Return how this program is called from here."""
    called = Path(sys.argv[0])
    if called.name != "headrace" or shutil.which("headrace") == str(called.absolute()):
        return "headrace"
    return short(called)


def short(path: Path | str) -> str:
    """Return a path as it is shortest: below the current folder without it."""
    relative = os.path.relpath(path)
    return str(path) if relative.startswith("..") else relative
