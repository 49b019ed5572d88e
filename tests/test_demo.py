"""The demo, small: a few pages and steps; and, slowly, as a newcomer runs it."""

import re
import shlex
import time
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from headrace import demo, pydoc_site
from tests.commands import headrace, spawn

# -------------------------------------------------------------------------------------------------------------- site


def test_the_list_of_modules_names_each_once() -> None:
    names = pydoc_site.module_names()
    assert len(names) == len(set(names)) > 500
    assert not {"antigravity", "this", "idlelib", "turtle", "tkinter", "__main__"}.intersection(names)


def test_a_page_says_nothing_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HEADRACE_SECRET", "a-word-that-no-page-may-hold")
    known = frozenset({"os", "json"})
    pages = {name: pydoc_site.render_page(name, known) for name in ("os", "sys", "json", "socket", "tempfile", "site")}
    for page in pages.values():
        assert "a-word-that-no-page-may-hold" not in page
        assert str(Path(pydoc_site.__file__).parent) not in page
        assert "file:" not in page
        assert not re.search(r" at 0x[0-9a-f]{6,}", page)
        assert set(re.findall(r'href="([a-z_.]+)\.html', page)) <= known
    assert pages == {name: pydoc_site.render_page(name, known) for name in pages}


def test_a_site_is_whole_and_served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pydoc_site, "module_names", lambda: ["json", "no_such_module", "textwrap"])
    assert pydoc_site.write_site(tmp_path / "site") == 2
    with pydoc_site.serving(tmp_path / "site") as url, pydoc_site.serving(tmp_path / "site") as second:
        assert url != second
        with urllib.request.urlopen(url) as answer:
            index = answer.read().decode()
    assert "json.html" in index
    assert "no_such_module" not in index
    assert [path.name for path in tmp_path.iterdir()] == ["site"]


# -------------------------------------------------------------------------------------------------------------- demo


@pytest.fixture
def small_demo(monkeypatch: pytest.MonkeyPatch) -> None:
    names = [name for name in pydoc_site.module_names() if "." not in name][:70]
    monkeypatch.setattr(pydoc_site, "module_names", lambda: names)
    monkeypatch.setattr(pydoc_site, "render_site", pydoc_site.write_site)
    monkeypatch.setattr(demo, "STEPS", 5)
    monkeypatch.setattr(demo, "SAMPLE_TOKENS", 5)


def run_and_check(out: Path) -> Any:
    ran = headrace("demo", "--out", out, "--workers", 1, "--json")
    assert ran.status == 0, ran.err
    result = ran.json
    for key in ("crawl", "manifest", "tokens_manifest", "lock", "run_file", "run", "checkpoint"):
        assert Path(result[key]).exists()
    assert result["step"] == demo.STEPS
    assert result["sample"].startswith(demo.PROMPT)
    return result


@pytest.mark.usefixtures("small_demo")
def test_the_whole_way_and_back(tmp_path: Path) -> None:
    out = tmp_path / "a folder with spaces"
    first = run_and_check(out)
    second = run_and_check(out)
    for key in ("content", "tokens_content", "checkpoint", "loss", "bits_per_byte", "sample"):
        assert first[key] == second[key]
    text = headrace("demo", "--out", out, "--workers", 1).out
    for command in first["next"]:
        assert command in text
        program, *words = shlex.split(command)
        assert program.endswith("headrace")
        ran = headrace(*words)
        assert ran.status == 0, ran.err
        assert ran.out


@pytest.mark.usefixtures("small_demo")
def test_a_crawl_that_was_interrupted_is_not_taken_for_the_whole(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from headrace.pipeline import crawl

    def interrupt(url: str) -> str:
        if len(asked := [*urls, url]) > 10:
            raise KeyboardInterrupt
        urls[:] = asked
        return real(url)

    urls: list[str] = []
    real = crawl.host_of
    monkeypatch.setattr(crawl, "host_of", interrupt)
    assert headrace("demo", "--out", tmp_path / "demo").status == 130
    monkeypatch.setattr(crawl, "host_of", real)
    assert not (tmp_path / "demo" / "crawl.warc.gz").exists()
    assert (tmp_path / "demo" / "site" / "index.html").exists()


@pytest.mark.slow
def test_the_demo_as_a_newcomer_runs_it(tmp_path: Path) -> None:
    ran = spawn("demo", "--json", cwd=tmp_path, timeout=900)
    assert ran.status == 0, ran.err
    assert ran.json["rows"] > 500
    assert ran.json["bits_per_byte"] < 2
    started = time.monotonic()
    assert spawn("demo", "--json", cwd=tmp_path).json["content"] == ran.json["content"]
    assert time.monotonic() - started < 60
