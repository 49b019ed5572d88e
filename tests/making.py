"""Small real inputs, made on the spot: pages with words of many lengths, and WARC files that hold them."""

import gzip
import random
from collections.abc import Iterable
from pathlib import Path

WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "that",
    "it",
    "was",
    "for",
    "on",
    "are",
    "with",
    "as",
    "his",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "or",
    "had",
    "by",
    "hot",
    "word",
    "but",
    "what",
    "some",
    "we",
    "can",
    "out",
    "other",
    "were",
    "all",
    "there",
    "when",
    "up",
    "use",
    "your",
    "how",
    "said",
    "an",
    "each",
    "she",
    "which",
    "do",
    "their",
    "time",
    "if",
    "will",
    "way",
    "about",
    "many",
    "then",
    "them",
    "write",
    "would",
    "like",
    "so",
    "these",
    "her",
    "long",
    "make",
    "thing",
    "see",
    "him",
    "two",
    "has",
    "look",
    "more",
    "day",
    "could",
    "go",
    "come",
    "did",
    "number",
    "sound",
    "no",
    "most",
    "people",
    "my",
    "over",
    "know",
    "water",
    "than",
    "call",
    "first",
    "who",
    "may",
    "down",
    "side",
    "been",
    "now",
    "find",
    "any",
    "new",
    "work",
    "part",
    "river",
    "channel",
    "mill",
    "wheel",
    "stream",
    "measure",
    "document",
    "signal",
    "verdict",
    "corpus",
    "window",
    "token",
    "reading",
    "history",
    "language",
]


def article(seed: int, num_sentences: int = 40) -> str:
    """Return paragraphs of made sentences; equal seeds give equal text."""
    rng = random.Random(seed)
    sentences = []
    for _ in range(num_sentences):
        words = [rng.choice(WORDS) for _ in range(rng.randint(6, 18))]
        sentences.append(" ".join(words).capitalize() + ".")
    paragraphs = [" ".join(sentences[start : start + 5]) for start in range(0, num_sentences, 5)]
    return "\n\n".join(paragraphs)


def page(title: str, text: str) -> bytes:
    """Return an HTML page with a text in its main part."""
    body = "".join(f"<p>{paragraph}</p>" for paragraph in text.split("\n\n"))
    html = f"<html><head><title>{title}</title></head><body><main><h1>{title}</h1>{body}</main></body></html>"
    return html.encode()


def write_warc(path: Path, pages: Iterable[tuple[str, bytes]], *, compress: bool = True) -> Path:
    """Write pages as response records of one date; the same pages give the same bytes."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb") as file:
        for number, (url, body) in enumerate(pages):
            http = b"HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\n\r\n" + body
            lines = [
                "WARC/1.0",
                "WARC-Type: response",
                f"WARC-Record-ID: <urn:uuid:{path.stem}-{number}>",
                "WARC-Date: 2026-01-01T00:00:00Z",
                f"WARC-Target-URI: {url}",
                "Content-Type: application/http; msgtype=response",
                f"Content-Length: {len(http)}",
            ]
            record = "\r\n".join(lines).encode() + b"\r\n\r\n" + http + b"\r\n\r\n"
            file.write(gzip.compress(record, mtime=0) if compress else record)
    return path


def recompress(source: Path, target: Path, level: int) -> Path:
    """Copy a gzipped WARC with every member compressed anew at another level."""
    import zlib

    target.parent.mkdir(parents=True, exist_ok=True)
    data = source.read_bytes()
    with target.open("wb") as file:
        while data:
            inflate = zlib.decompressobj(31)
            file.write(gzip.compress(inflate.decompress(data), level, mtime=0))
            data = inflate.unused_data
    return target


def make_crawl(folder: Path, num_files: int = 3, pages_per_file: int = 20) -> Path:
    """Write some WARC files: articles, one page that stands twice, two near-duplicates; return the folder."""
    for number in range(num_files):
        first = number * pages_per_file
        pages = [
            (f"https://example.org/{index}", page(f"Page {index}", article(index)))
            for index in range(first, first + pages_per_file)
        ]
        near = article(first) + "\n\nOne more sentence stands at the end of this copy."
        pages.append((f"https://copy.example.org/{number}", page("A copy", near)))
        write_warc(folder / f"crawl-{number:02d}.warc.gz", pages)
    return folder


RECIPE = """
name = "small"

[[sources]]
name = "web"
reader = "warc"
extractor = "resiliparse"

[[steps]]
kind = "measure"
signals = ["gopher_quality", "c4"]

[[steps]]
kind = "measure"
view = "c4"
signals = ["minhash", "pii"]

[[steps]]
kind = "rules"
name = "length"
rules = [{ column = "gopher_quality.num_words", min = 20 }]

[[steps]]
kind = "minhash"
signal = "minhash@c4"
verify = "none"

[[steps]]
kind = "cut"
edits = ["c4.removed", "pii@c4.redactions"]

[[steps]]
kind = "tokenize"
vocab_size = 400

[sharding]
task_mebibytes = 1
"""


def write_recipe(folder: Path, text: str = RECIPE) -> Path:
    """Write a recipe into a folder."""
    path = folder / "small.toml"
    path.write_text(text, encoding="utf-8")
    return path


RUN_FILE = """
[run]
name = "x"
steps = 2
[data]
corpora = [{{ tokens = "{tokens}" }}]
sequence_length = 32
global_batch = 2
[model]
num_layers = 1
width = 16
num_heads = 2
"""
"""Two steps of the smallest model over one corpus."""
