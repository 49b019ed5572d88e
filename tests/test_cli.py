"""The command line: results on stdout, all else on stderr, a status for each kind of end."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from headrace.commands import COMMANDS
from headrace.console import KEPT
from headrace.quiet import interrupts_kept
from headrace.trainer.session import Session
from tests.commands import HEADRACE, build_words, headrace, small_crawl, spawn
from tests.making import RUN_FILE, article, page

RUN = RUN_FILE.replace('"x"', '"tiny"').replace("steps = 2", "steps = 3") + "[checkpoint]\nevery = 2\n"


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_crawl(tmp_path_factory.mktemp("cli"))


@pytest.fixture(scope="module")
def built(folder: Path) -> Any:
    ran = headrace(*build_words(folder), "--json")
    assert ran.status == 0, ran.err
    return ran.json


@pytest.fixture(scope="module")
def trained(folder: Path, built: Any) -> Path:
    run = folder / "run.toml"
    run.write_text(RUN.format(tokens=Path(built["tokens_manifest"]).relative_to(folder)), encoding="utf-8")
    ran = headrace("train", run, "--out", folder / "run", "--json")
    assert ran.status == 0, ran.err
    return folder / "run"


# ------------------------------------------------------------------------------------------------------- conventions


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_the_common_options(name: str) -> None:
    ran = headrace(*name.split(), "--help")
    assert ran.status == 0
    assert "--json" in ran.out
    assert "--debug" in ran.out


def test_help_imports_nothing_heavy() -> None:
    code = (
        "import sys; from headrace.cli import run; run(['--help']); "
        "print([m for m in ('torch', 'pyarrow', 'numpy', 'pydantic', 'trafilatura', 'requests') if m in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "[]"


@pytest.mark.parametrize(
    "words",
    [
        ["bild"],
        ["build"],
        ["build", "demo", "--store", "s", "--no-such-option"],
        ["build", "demo", "--store", "s", "--sample", "2"],
        ["build", "demo", "--store", "s", "--source", "docs"],
        ["build", "demo", "--store", "s", "--source", "docs=a", "--source", "docs=b"],
        ["trace", "run", "--step", "0"],
    ],
)
def test_a_command_line_that_cannot_be_has_status_2(words: list[str], tmp_path: Path) -> None:
    ran = spawn(*words, cwd=tmp_path)
    assert ran.status == 2
    assert ran.out == ""
    assert "Error" in ran.err or "Usage" in ran.err
    assert "error" in headrace(*words, "--json").json
    assert list(tmp_path.iterdir()) == []


def test_without_a_command_it_helps() -> None:
    assert "Usage" in (ran := headrace()).out + ran.err


def test_an_error_is_one_message_and_with_json_an_object() -> None:
    ran = headrace("build", "no-such-recipe", "--store", "unused")
    assert (ran.status, ran.out) == (1, "")
    assert ran.err.startswith("error: no-such-recipe: no such file")
    assert "Traceback" not in ran.err
    ran = headrace("build", "no-such-recipe", "--store", "unused", "--json")
    assert ran.status == 1
    assert ran.json["kind"] == "InputError"
    assert ran.json["error"].startswith("no-such-recipe")
    assert "Traceback" in headrace("build", "no-such-recipe", "--store", "unused", "--debug").err


def test_an_unexpected_error_is_a_message_too(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> None:
        raise KeyError("what nobody thought of")

    monkeypatch.setattr("headrace.pipeline.recipe.builtin_recipes", fail)
    ran = headrace("recipes")
    assert ran.status == 1
    assert "KeyError" in ran.err
    assert "--debug" in ran.err
    assert "Traceback" not in ran.err
    assert "Traceback" in headrace("recipes", "--debug").err


def test_an_interrupt_has_its_own_status(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt() -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("headrace.pipeline.recipe.builtin_recipes", interrupt)
    assert headrace("recipes", "--json").json == {"error": KEPT, "kind": "Interrupted"}
    assert headrace("recipes").status == 130


def test_an_interrupt_that_a_finalizer_swallows_comes_again() -> None:
    class Finalized:
        def __del__(self) -> None:
            raise KeyboardInterrupt

    started = time.monotonic()
    with interrupts_kept():
        Finalized()
        with pytest.raises(KeyboardInterrupt):
            time.sleep(10)
    assert time.monotonic() - started < 9


def test_nothing_but_our_own_words_reaches_the_terminal(folder: Path) -> None:
    ran = spawn(*build_words(folder, "quiet"), "--workers", "2", "--json")
    assert ran.status == 0
    assert ran.json["rows"]
    assert all(line.split(":")[1].split()[1] == "of" for line in ran.err.splitlines()), ran.err


def test_a_reader_that_goes_away_is_no_traceback(built: Any) -> None:
    command = [*HEADRACE, "inspect", built["manifest"]]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 141


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_result_that_cannot_be_written_is_an_error() -> None:
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([*HEADRACE, "recipes"], stdout=full, stderr=subprocess.PIPE, text=True)
    assert done.returncode == 1
    assert "No space left" in done.stderr


# ------------------------------------------------------------------------------------------------------------- build


def test_build_names_what_it_made(built: Any, folder: Path) -> None:
    manifest = json.loads(Path(built["manifest"]).read_text())
    assert (manifest["content"], manifest["rows"]) == (built["content"], built["rows"])
    tokens = json.loads(Path(built["tokens_manifest"]).read_text())
    assert (tokens["content"], tokens["facts"]["tokens"]) == (built["tokens_content"], built["tokens"])
    assert Path(built["lock"]).exists()
    reasons = {item["reason"]: item["records"] for item in built["dropped"]}
    assert reasons["near_duplicate"] == 3
    ran = headrace(*build_words(folder))
    assert ran.status == 0
    for shown in (built["manifest"], built["content"], built["lock"], "near_duplicate"):
        assert shown in ran.out


def test_limit_and_sample_are_options_of_a_build(folder: Path, built: Any) -> None:
    limited = headrace(*build_words(folder), "--limit", 5, "--json").json
    assert limited["rows"] <= 5
    sampled = headrace(*build_words(folder), "--sample", "0.3", "--json").json
    assert 0 < sampled["rows"] < built["rows"]
    assert len({limited["lock"], sampled["lock"], built["lock"]}) == 3


def test_plan_says_what_is_there_and_why_the_rest_is_not(folder: Path, built: Any) -> None:
    words = ["plan", *build_words(folder)[1:-2]]
    plan = headrace(*words, "--json").json
    assert plan["complete"]
    assert {step["why"] for step in plan["steps"]} == {"made before"}
    ran = headrace(*words, "--set", "gopher_quality.num_words.min=300", "--json")
    assert not ran.json["complete"]
    assert ran.json["steps"][-1]["why"] == "config: rules[0].min 20.0 -> 300.0"
    assert "300.0" in headrace(*words, "--set", "gopher_quality.num_words.min=300").out


def test_plan_writes_nothing(folder: Path, built: Any, tmp_path: Path) -> None:
    """Not where there is no store yet, and not into one: neither digests of new files, nor lost tasks withdrawn."""
    words = ["plan", folder / "small.toml", "--source", f"web={folder}/crawl/*.warc*"]
    absent = tmp_path / "mistyped"
    plan = headrace(*words, "--store", absent, "--json").json
    assert (plan["store"], plan["store_exists"], plan["complete"]) == (str(absent), False, False)
    assert "there is no store at" in headrace(*words, "--store", absent).out
    assert not absent.exists()
    copy = shutil.copytree(folder / "store", tmp_path / "store")
    for path in copy.glob("tasks/cut/*/*/*.parquet"):
        path.unlink()
    other = shutil.copytree(folder / "crawl", tmp_path / "crawl")
    before = _snapshot(copy)
    again = headrace(*words[:2], "--source", f"web={other}/*.warc*", "--store", copy, "--json").json
    assert (again["store_exists"], again["complete"]) == (True, False)
    assert _snapshot(copy) == before


def _snapshot(folder: Path) -> dict[Path, tuple[int, int]]:
    return {path: (path.stat().st_size, path.stat().st_mtime_ns) for path in sorted(folder.rglob("*"))}


def test_several_sets_are_checked_together(folder: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "both.toml"
    recipe.write_text((folder / "small.toml").read_text().replace("min = 20 }", "min = 20, max = 1000 }"))
    words = ["plan", recipe, "--store", tmp_path / "none", "--source", f"web={folder}/crawl/*.warc*"]
    sets = ["--set", "gopher_quality.num_words.min=2000", "--set", "gopher_quality.num_words.max=3000"]
    assert headrace(*words, *sets).status == 0
    ran = headrace(*words, *sets[:2])
    assert ran.status == 1
    assert "min (2000.0) is above max (1000.0)" in ran.err


def test_a_sample_of_nothing_is_refused(folder: Path) -> None:
    ran = headrace(*build_words(folder, "sampled"), "--sample", "1e-13")
    assert ran.status == 1
    assert "--sample is 1e-13, which is no record; the smallest share is 2.3283064365386963e-10" in ran.err


def test_set_changes_one_key_and_refuses_what_is_not_there(folder: Path, built: Any) -> None:
    changed = headrace(*build_words(folder, "other"), "--set", "gopher_quality.num_words.min=480", "--json").json
    assert 0 < changed["rows"] < built["rows"]
    ran = headrace(*build_words(folder), "--set", "gopher_quality.num_word.min=300")
    assert ran.status == 1
    assert "did you mean 'gopher_quality.num_words'" in ran.err


def test_locked_without_a_lock_says_what_to_do(folder: Path) -> None:
    ran = headrace(*build_words(folder, "unlocked"), "--locked", "--json")
    assert (ran.status, ran.json["kind"]) == (1, "LockError")
    assert "build once without --locked" in ran.json["error"]
    assert "small.lock.toml" in ran.json["error"]


def test_locked_refuses_what_the_lock_does_not_name(folder: Path, built: Any) -> None:
    assert headrace(*build_words(folder), "--locked", "--json").json["content"] == built["content"]
    ran = headrace(*build_words(folder), "--locked", "--set", "gopher_quality.num_words.min=300", "--json")
    assert ran.status == 1
    assert ran.json["kind"] == "LockError"
    assert "300" in ran.json["error"]
    elsewhere = headrace(*build_words(folder, "elsewhere"), "--lock", built["lock"], "--json")
    assert elsewhere.json["content"] == built["content"]


def test_recipes_lists_those_that_come_along() -> None:
    names = {recipe["name"] for recipe in headrace("recipes", "--json").json["recipes"]}
    assert {"demo", "web-en"} <= names
    assert "web-en" in headrace("recipes").out


# ---------------------------------------------------------------------------------------------------------- look back


def test_verify_finds_one_flipped_byte(folder: Path, built: Any) -> None:
    headrace(*build_words(folder, "damaged"), "--json")
    store = folder / "damaged"
    assert headrace("verify", store, "--json").json["ok"]
    victim = next(store.glob("tasks/cut/*/*/corpus-*.parquet"))
    data = bytearray(victim.read_bytes())
    data[len(data) // 3] ^= 1
    victim.write_bytes(data)
    ran = headrace("verify", store, "--json")
    assert ran.status == 1
    assert any(victim.name in finding["path"] or "corpus-" in finding["path"] for finding in ran.json["findings"])
    assert "row group" in headrace("verify", store).out


def test_inspect_shows_the_funnel_and_samples(built: Any) -> None:
    report = headrace("inspect", built["manifest"], "--samples", 1, "--json").json
    assert report["steps"][-1]["ledger"]["kept"]["records"] == built["rows"]
    assert len(report["kept"]) == 1
    out = headrace("inspect", built["manifest"]).out
    assert "near_duplicate" in out
    assert "https://example.org/" in out


def test_why_tells_a_fate_and_reads_the_bytes_again(folder: Path, built: Any) -> None:
    ran = headrace("why", "https://example.org/3", "--store", folder / "store", "--refetch", "--json")
    (fate,) = ran.json["documents"]
    assert fate["outcome"] == "kept"
    assert fate["refetched"]["same"] is True
    out = headrace("why", fate["doc_id"], "--store", folder / "store", "--refetch").out
    for shown in ("gopher_quality.num_words", ">= 20", fate["origin"]["digest"], "the same as stored"):
        assert shown in out
    (copy,) = headrace("why", "https://copy.example.org/0", "--store", folder / "store", "--json").json["documents"]
    assert copy["reason"] == "near_duplicate"
    assert fate["origin"]["inner"] is fate["refetched"]["origin"]["inner"] is None
    assert headrace("why", "https://example.org/none", "--store", folder / "store").status == 1
    assert headrace("why", "https://example.org/3", "--store", folder / "nowhere").status == 1
    assert not (folder / "nowhere").exists()


# ------------------------------------------------------------------------------------------------------------- train


def test_train_resume_and_trace(folder: Path, trained: Path) -> None:
    again = headrace("train", folder / "run.toml", "--out", trained)
    assert again.status == 1
    assert "resume" in again.err
    resumed = headrace("train", folder / "run.toml", "--out", trained, "--resume", "--json").json
    assert resumed["step"] == 3
    traced = headrace("trace", trained, "--step", 2, "--json").json["documents"]
    assert {piece["row"] for piece in traced} == {0, 1}
    for piece in traced:
        (fate,) = headrace("why", piece["doc_id"], "--store", folder / "store", "--json").json["documents"]
        assert fate["origin"]["digest"] == piece["origin"]["digest"]
    assert traced[0]["doc_id"] in headrace("trace", trained, "--step", 2).out
    assert headrace("trace", folder, "--step", 2).status == 1


def test_exposure_is_the_inverse_of_trace(folder: Path, trained: Path) -> None:
    steps = {step: headrace("trace", trained, "--step", step, "--json").json["documents"] for step in (1, 2, 3)}
    document = steps[2][0]
    expected = sorted(
        (step, piece["row"], piece["start"], piece["length"])
        for step, pieces in steps.items()
        for piece in pieces
        if piece["doc_id"] == document["doc_id"]
    )
    for option, value in (("--doc", document["doc_id"]), ("--url", document["url"])):
        ran = headrace("exposure", trained, option, value, "--json").json
        found = [(one["step"], one["row"], one["start"], one["length"]) for one in ran["exposed"]]
        assert found == expected
        assert ran["tokens"] == sum(length for *_, length in expected)
    everything = headrace("exposure", trained, "--domain", "example.org", "--json").json
    assert everything["tokens"] == sum(piece["length"] for pieces in steps.values() for piece in pieces)
    assert document["doc_id"] in headrace("exposure", trained, "--doc", document["doc_id"]).out
    assert headrace("exposure", trained, "--doc", "f" * 32, "--json").json["exposed"] == []
    assert "give one of" in headrace("exposure", trained).err
    assert "32 hexadecimal digits" in headrace("exposure", trained, "--doc", "1").err


def test_stream_check_proves_a_run(folder: Path, trained: Path) -> None:
    ran = headrace("stream", "check", folder / "run.toml", "--json").json
    (corpus,) = ran["corpora"]
    assert ran["steps"] == 3
    assert corpus["dropped"] == 0
    assert corpus["share"] == corpus["weight"] == 1
    assert "exactly as often as planned" in headrace("stream", "check", folder / "run.toml", "--steps", 9).out


def test_trace_ranks_documents_by_loss(folder: Path, trained: Path) -> None:
    ran = headrace("trace", trained, "--step", 2, "--loss", "--json").json
    assert ran["checkpoint"] in (2, 3)
    losses = [piece["loss"] for piece in ran["documents"]]
    assert losses == sorted(losses, reverse=True)
    assert all(0 < loss < 20 for loss in losses)
    assert "loss" in headrace("trace", trained, "--step", 2, "--loss").out


def test_a_run_that_is_preempted_says_so_with_its_status(
    folder: Path, trained: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    advance, out = Session.advance, folder / "preempted"

    def terminated(session: Session) -> dict[str, Any]:
        os.kill(os.getpid(), signal.SIGTERM)
        return advance(session)

    with monkeypatch.context() as patch:
        patch.setattr(Session, "advance", terminated)
        ran = headrace("train", folder / "run.toml", "--out", out, "--json")
    assert (ran.status, ran.json["step"], ran.json["preempted"]) == (75, 1, True)
    ran = headrace("train", folder / "run.toml", "--out", out, "--resume", "--json")
    assert (ran.status, ran.json["step"], ran.json["resumed_from"]) == (0, 3, 1)


def test_an_unknown_key_of_a_run_file_is_named(folder: Path, built: Any) -> None:
    path = folder / "bad.toml"
    path.write_text(RUN.format(tokens=built["tokens_manifest"]).replace("global_batch", "globl_batch"))
    ran = headrace("train", path, "--out", folder / "bad")
    assert ran.status == 1
    assert "did you mean 'global_batch'" in ran.err


def test_a_device_that_is_not_there_is_named_with_its_file(folder: Path, built: Any) -> None:
    path = folder / "device.toml"
    path.write_text(RUN.format(tokens=built["tokens_manifest"]).replace("[run]", '[run]\ndevice = "gpu"'))
    ran = headrace("train", path, "--out", folder / "device")
    assert ran.status == 1
    assert f"{path}: run.device = 'gpu': " in ran.err
    assert not (folder / "device").exists()


# ------------------------------------------------------------------------------------------------------------- crawl


class _Quiet(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:
        pass


@pytest.fixture
def site(tmp_path: Path) -> Iterator[str]:
    folder = tmp_path / "site"
    folder.mkdir()
    (folder / "index.html").write_text("<a href='one.html'>one</a> <a href='two.html'>two</a>")
    for name in ("one", "two"):
        (folder / f"{name}.html").write_bytes(page(name, article(1)))
    server = ThreadingHTTPServer(("127.0.0.1", 0), partial(_Quiet, directory=str(folder)))
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_crawl_writes_an_archive_that_builds(site: str, tmp_path: Path, folder: Path) -> None:
    report = headrace("crawl", site, "--out", tmp_path / "crawl" / "site.warc.gz", "--json").json
    assert (report["pages"], report["ended_by"]) == (3, "done")
    words = ["build", folder / "small.toml", "--store", tmp_path / "store", "--source", f"web={tmp_path}/crawl/*"]
    assert headrace(*words, "--workers", 1, "--json").json["rows"] == 1
    ran = headrace("crawl", site, "--out", tmp_path / "limited.warc.gz", "--pages", 1)
    assert ran.status == 0
    assert "ended_by" in ran.out
    assert headrace("crawl", site, "--out", tmp_path / "limited.warc.gz").status == 1
    assert headrace("crawl", "ftp://example.org/", "--out", tmp_path / "none.warc.gz").status == 1
