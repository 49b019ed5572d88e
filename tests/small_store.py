"""A small corpus made the long way: a web archive and a few text files, through every stage, in about a second."""

import gzip
from collections.abc import Iterator
from pathlib import Path

from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.recipe import Recipe
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import parse_toml
from headrace.pipeline.walk import BuildOptions

RECIPE = """
name = "small"

[[sources]]
name = "web"
extractor = "resiliparse"

[[sources]]
name = "notes"
reader = "text"
extractor = "plain"

[[steps]]
kind = "measure"
signals = ["gopher_quality", "c4"]

[[steps]]
kind = "measure"
view = "c4"
signals = ["fineweb", "minhash", "pii"]

[[steps]]
kind = "rules"
name = "quality"
rules = [
    { column = "gopher_quality.num_words", min = 30, reason = "short" },
    { column = "gopher_quality.num_words", max = 100000, reason = "long", when = { source = "web" } },
    { column = "fineweb@c4.num_lines", min = 1, reason = "empty" },
]

[[steps]]
kind = "minhash"
signal = "minhash@c4"
verify = "none"
survivor = "shortest"

[[steps]]
kind = "cut"
edits = ["c4.removed", "pii@c4.redactions"]

[[steps]]
kind = "tokenize"
vocab_size = 300

[split]
heldout = 2000
"""

SENTENCES = (
    "The mill stood above the river where the {topic} road crossed the old stone bridge.",
    "Every morning the miller opened the {topic} gate and let the water into the channel.",
    "Nobody in the village could remember a year when the {topic} wheel had not turned.",
    "In winter, when the {topic} ice grew thick, they broke it with long iron poles.",
    "Write to {topic}@example.org for the history of the {topic} mill and its owners.",
    "A heavy stone ground the {topic} grain between noon and the ringing of the bell.",
    "The children counted the {topic} buckets as they rose dripping out of the dark.",
    "When the {topic} flood came, the lower meadows lay under water for nine days.",
)
PAGES = ("barley", "oat", "rye", "wheat", "spelt", "maize")


def page(topic: str, extra: str = "") -> bytes:
    """Return a page of HTML about a topic, with a line that C4 removes."""
    lines = "".join(f"<p>{sentence.format(topic=topic)}</p>" for sentence in SENTENCES)
    body = f"<h1>About {topic}</h1>{lines}<p>{extra}</p><p>Home and {topic} menu without an end</p>"
    return f"<html><head><title>{topic}</title></head><body><main>{body}</main></body></html>".encode()


def entries() -> Iterator[tuple[str, bytes, str, str]]:
    """Yield URL, body, content type and status line of each response."""
    for topic in PAGES:
        yield f"http://www.example.org/{topic}", page(topic), "text/html; charset=utf-8", "200 OK"
    yield "http://mirror.example.net/rye", page("rye", "Seen on a mirror."), "text/html", "200 OK"
    yield "http://example.org/barley", page("barley"), "text/html", "200 OK"
    yield "http://example.org/tiny", b"<html><body><p>Too short.</p></body></html>", "text/html", "200 OK"
    yield "http://example.org/gone", b"<html><body>gone</body></html>", "text/html", "404 Not Found"
    yield "http://example.org/logo.png", b"\x89PNG\r\n", "image/png", "200 OK"


def write_warc(path: Path) -> None:
    """Write a web archive with pages, one record twice, one that is no response, and garbage at its end."""
    records = [_record("warcinfo", "", b"software: tests\r\n", "application/warc-fields")]
    for url, body, content_type, status in entries():
        records.append(_response(url, body, content_type, status))
    records.append(_response("http://www.example.org/oat", page("oat"), "text/html; charset=utf-8", "200 OK"))
    path.write_bytes(
        b"".join(gzip.compress(record, mtime=0) for record in records) + b"\x1f\x8bnothing that can be read"
    )


def _response(url: str, body: bytes, content_type: str, status: str) -> bytes:
    http = f"HTTP/1.1 {status}\r\nContent-Type: {content_type}\r\n\r\n".encode()
    return _record("response", url, http + body, "application/http; msgtype=response")


def _record(kind: str, url: str, block: bytes, content_type: str) -> bytes:
    target = f"WARC-Target-URI: {url}\r\n" if url else ""
    head = (
        f"WARC/1.1\r\nWARC-Type: {kind}\r\n{target}WARC-Date: 2024-05-06T07:08:09Z\r\n"
        f"Content-Type: {content_type}\r\nContent-Length: {len(block)}\r\n\r\n"
    )
    return head.encode() + block + b"\r\n\r\n"


def write_inputs(folder: Path) -> Path:
    """Write the raw inputs into a folder; return it."""
    folder.mkdir(parents=True, exist_ok=True)
    write_warc(folder / "crawl.warc.gz")
    for topic in ("millet", "quinoa"):
        (folder / f"{topic}.txt").write_text("\n".join(line.format(topic=topic) for line in SENTENCES))
    return folder


def small_recipe(text: str = RECIPE) -> Recipe:
    return parse_toml(Recipe, text, "small.toml")


def options(inputs: Path, **more: int | float) -> BuildOptions:
    globs = {"web": str(inputs / "*.warc.gz"), "notes": str(inputs / "*.txt")}
    return BuildOptions(globs=globs, **more)  # type: ignore[arg-type] # sample or limit, as the test says


def build_small(folder: Path, text: str = RECIPE, **more: int | float) -> Built:
    """Build the small corpus in `folder/store` from `folder/inputs`, which is written if it is not there."""
    inputs = folder / "inputs"
    if not inputs.exists():
        write_inputs(inputs)
    return build(small_recipe(text), Store.open(folder / "store"), InlineEngine(), options(inputs, **more))
