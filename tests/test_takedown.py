"""What is taken down is hidden at once: order and parts stay, tokens are masked, runs can be asked what they saw."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from headrace.pipeline.hashing import digest_file
from headrace.pipeline.store import Store
from headrace.trainer.batch import IGNORE
from headrace.trainer.run_config import load_run
from headrace.trainer.stream import Stream, open_stream
from tests.commands import build_words, headrace, small_crawl
from tests.making import RUN_FILE

RUN = RUN_FILE.replace("steps = 2", "steps = 6") + "[checkpoint]\nevery = 2\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return small_crawl(tmp_path)


@pytest.fixture
def built(folder: Path) -> Any:
    ran = headrace(*build_words(folder), "--json")
    assert ran.status == 0, ran.err
    (folder / "run.toml").write_text(RUN.format(tokens=ran.json["tokens_manifest"]), encoding="utf-8")
    return ran.json


def opened(folder: Path) -> Stream:
    run = load_run(folder / "run.toml").beside(folder)
    return open_stream(run.data, run.run.seed)


def test_tokens_are_masked_in_place_and_the_order_stays(folder: Path, built: Any) -> None:
    before = opened(folder)
    pieces = [before.pieces(step) for step in range(6)]
    batches = [before.batch(step) for step in range(6)]
    gone = pieces[1][0][1][0].doc_id
    parts = {path: digest_file(path) for path in (folder / "store").rglob("*.parquet")}
    ran = headrace("takedown", built["manifest"], "--doc", gone, "--reason", "asked", "--json")
    assert ran.status == 0, ran.err
    assert ran.json["hidden"] == [gone]
    assert Path(ran.json["vector"]).exists()
    assert all(digest_file(path) == digest for path, digest in parts.items())
    after = opened(folder)
    assert after.state() == before.state()
    masked = 0
    for step in range(6):
        old, new = batches[step], after.batch(step)
        assert np.array_equal(old.positions, new.positions)
        assert np.array_equal(old.documents, new.documents)
        for row, (_, stretches) in enumerate(pieces[step]):
            for stretch in stretches:
                place = slice(stretch.offset, stretch.offset + stretch.length)
                if stretch.doc_id == gone:
                    masked += stretch.length
                    assert (new.targets[row, place] == IGNORE).all()
                    assert (new.tokens[row, place] == before.corpora[0].vocabulary.end_of_text).all()
                else:
                    assert np.array_equal(old.tokens[row, place], new.tokens[row, place])
                    assert np.array_equal(old.targets[row, place], new.targets[row, place])
    assert masked > 0


def test_a_run_goes_on_and_tells_what_it_saw(folder: Path, built: Any) -> None:
    run = folder / "run.toml"
    stopped = run.read_text(encoding="utf-8")
    assert headrace("train", run, "--out", folder / "run").status == 0
    gone = opened(folder).pieces(1)[0][1][0].doc_id
    seen = headrace("exposure", folder / "run", "--doc", gone, "--json").json
    named = folder / "list.txt"
    named.write_text(f"# asked by mail\n{gone}\n\nhttps://nowhere.example/page\n", encoding="utf-8")
    ran = headrace(
        "takedown", built["manifest"], "--file", named, "--reason", "asked", "--run", folder / "run", "--json"
    )
    assert ran.json["exposure"] == {
        str(folder / "run"): {"steps": len({one["step"] for one in seen["exposed"]}), "tokens": seen["tokens"]}
    }
    assert len(ran.json["records"]) == 2
    run.write_text(stopped.replace("steps = 6", "steps = 6\n# longer"), encoding="utf-8")
    resumed = headrace("train", run, "--out", folder / "run", "--resume", "--json")
    assert resumed.status == 0, resumed.err
    assert "taken down" in resumed.err


def test_what_had_gone_for_it_is_held(folder: Path, built: Any) -> None:
    store = Store.containing(Path(built["manifest"]))
    copy = headrace("why", "https://copy.example.org/0", "--store", store.root, "--json").json["documents"][0]
    assert copy["reason"] == "near_duplicate"
    ran = headrace("takedown", built["manifest"], "--url", "https://example.org/0", "--reason", "asked", "--json")
    assert [held["doc_id"] for held in ran.json["held"]] == [copy["doc_id"]]
    shown = headrace("takedown", built["manifest"], "--url", "https://example.org/0", "--reason", "asked").out
    assert copy["doc_id"] in shown


def test_what_cannot_be_is_refused(folder: Path, built: Any) -> None:
    reason = ["--reason", "asked"]
    assert "give one of" in headrace("takedown", built["manifest"], *reason).err
    assert (
        "name the one of the corpus" in headrace("takedown", built["tokens_manifest"], "--doc", "0" * 32, *reason).err
    )
    (folder / "empty").write_text("# nothing\n", encoding="utf-8")
    assert "names nothing" in headrace("takedown", built["manifest"], "--file", folder / "empty", *reason).err
    nothing = headrace("takedown", built["manifest"], "--domain", "nobody.example.com", *reason, "--json")
    assert nothing.json["hidden"] == []
    assert "holds nothing of it" in nothing.err
