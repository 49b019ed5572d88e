"""A site to crawl without a network: Python's own documentation, a page for each of a fixed list of modules.

The pages are what `pydoc` shows, less what would differ from run to run or tell of this machine: addresses of objects,
places of files, values that are not plain constants. They are rendered in a process of their own, because rendering a
page imports its module: with hashes that are not randomised, and without the environment, which some signatures show.

    python -m headrace.pydoc_site FOLDER
"""

import contextlib
import html
import importlib
import io
import os
import pydoc
import re
import subprocess
import sys
from collections.abc import Iterator, Set
from functools import partial
from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer
from importlib.resources import files
from pathlib import Path
from shutil import rmtree
from threading import Thread
from typing import Any

from headrace.pipeline.errors import HeadraceError

PORT = 8907
"""Where the site is served if nothing else is there, so that its URLs are the same in every crawl."""

ROBOTS = """User-agent: *
Disallow: /private/
"""

_ADDRESS = re.compile(r"(?:&nbsp;| )at(?:&nbsp;| )(?:remote )?0x[0-9a-fA-F]+")
_FILE_LINK = re.compile(r'<a href="file:[^"]*">[^<]*</a>')
_LINK = re.compile(r'<a href="([^":#]*)\.html(#[^"]*)?">(.*?)</a>')
_ENVIRONMENT = {"PYTHONHASHSEED": "0", "PYTHONWARNINGS": "ignore", "LC_ALL": "C.UTF-8", "TZ": "UTC", "COLUMNS": "80"}
_PLAIN = (int, float, complex, str, bytes, type(None))


class SiteError(HeadraceError):
    """The documentation could not be rendered."""


class Pages(pydoc.HTMLDoc):
    """Renders modules; of data it shows constants alone, because a module's state is not documentation."""

    def docother(
        self,
        object: Any,  # pydoc's own names: it calls them by keyword
        name: str | None = None,
        mod: str | None = None,
        *rest: Any,
    ) -> str:
        """Render a value; what is not a plain constant is named by its type."""
        if not _is_plain(object):
            return f"<strong>{html.escape(name or '')}</strong> of type {html.escape(type(object).__name__)}\n"
        return super().docother(object, name, mod, *rest)


def _is_plain(value: Any) -> bool:
    if type(value) is tuple:
        return all(map(_is_plain, value))
    return type(value) in {*_PLAIN, bool}


def module_names() -> list[str]:
    """Return the names of the modules whose pages make the site."""
    text = (files("headrace") / "pydoc_modules.txt").read_text(encoding="utf-8")
    return [name for line in text.splitlines() if not line.startswith("#") for name in line.split()]


def render_page(name: str, known: Set[str]) -> str:
    """Return a module's page; links lead only to pages that are `known`.

    Raises:
        Exception: whatever importing the module raises.
    """
    renderer, module = Pages(), importlib.import_module(name)
    page = renderer.page(pydoc.describe(module), renderer.document(module, name))
    page = page.replace("-&amp;gt;", "-&gt;")  # pydoc escapes the arrow of a signature twice
    return _without_machine(_LINK.sub(partial(_keep_known, known), page))


def _keep_known(known: Set[str], link: re.Match[str]) -> str:
    return link[0] if not link[1] or link[1] in known else link[3]


def _without_machine(page: str) -> str:
    """Leave out addresses of objects and places of files."""
    page = _ADDRESS.sub("", _FILE_LINK.sub("", page))
    for place, name in _places():
        page = page.replace(html.escape(place), name)
    return page


def _places() -> list[tuple[str, str]]:
    """Return folders of this machine with what stands for them in the pages, longest first."""
    named = {sys.prefix: "/usr", sys.base_prefix: "/usr", str(Path.home()): "/home/user"}
    return sorted(((place, name) for place, name in named.items() if len(place) > 1), key=lambda item: -len(item[0]))


def write_site(folder: Path) -> int:
    """Render all pages into a folder that does not exist yet; return how many there are."""
    names = module_names()
    aside = folder.with_name(f".{folder.name}-{os.getpid()}")
    aside.mkdir(parents=True)
    rendered = [name for name in names if _write_page(aside, name, frozenset(names))]
    (aside / "robots.txt").write_text(ROBOTS, encoding="utf-8")
    (aside / "index.html").write_text(_index(rendered), encoding="utf-8")
    rmtree(folder, ignore_errors=True)
    aside.rename(folder)
    return len(rendered)


def _write_page(folder: Path, name: str, known: Set[str]) -> bool:
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(io.StringIO()):
            page = render_page(name, known)
    except Exception:  # whatever a module of another version or platform may raise: it has no page then
        return False
    (folder / f"{name}.html").write_text(page, encoding="utf-8", errors="backslashreplace")
    return True


def _index(names: list[str]) -> str:
    items = "\n".join(f'<li><a href="{name}.html">{name}</a></li>' for name in names)
    return (
        '<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8">'
        "<title>Python documentation</title></head><body>\n"
        f"<h1>Python documentation</h1>\n<ul>\n{items}\n</ul>\n"
        '<p><a href="private/notes.html">Notes that robots.txt keeps to itself</a></p>\n</body></html>\n'
    )


def render_site(folder: Path) -> int:
    """Render the site in a process of its own; return how many pages there are.

    Raises:
        SiteError: that process failed.
    """
    done = subprocess.run(
        [sys.executable, "-m", "headrace.pydoc_site", str(folder)],
        env=_ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if done.returncode or not done.stdout.strip().isdigit():
        last = done.stderr.strip().rpartition("\n")[2]
        raise SiteError(f"{folder}: Python's documentation could not be rendered: {last or done.returncode}")
    return int(done.stdout)


class _Handler(SimpleHTTPRequestHandler):
    def log_message(self, format: str, *args: Any) -> None:  # the base class's name
        """Log nothing: the crawl reports what it fetched."""


@contextlib.contextmanager
def serving(folder: Path) -> Iterator[str]:
    """Serve a folder over HTTP on loopback; yield the URL of its index."""
    handler = partial(_Handler, directory=str(folder))
    try:
        server = ThreadingHTTPServer(("127.0.0.1", PORT), handler)
    except OSError:  # the port is taken
        server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    thread = Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}/"
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


if __name__ == "__main__":
    print(write_site(Path(sys.argv[1])))
