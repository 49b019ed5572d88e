"""How much memory do signals take?

`python -m benchmarks.signal_memory (FILE.txt[.gz]... | --of TEXT) [--words WAY] [--unspaced WAY] [--json]`

One document of `--megabytes` (50), made of the given texts, or of TEXT, over and over, is measured by signal after
signal in one process, as a worker does whose recipe names them all. The peak is that of the whole process:
interpreter, libraries, the document and all. With `--words` or `--unspaced` only signals that have them
as options are measured.
"""

import gzip
import json
import resource
import sys
import time
from argparse import ArgumentParser
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any, get_args

import numpy as np
import pyarrow as pa

from headrace.filters.contract import signal_classes
from headrace.filters.models import ModelFileError
from headrace.filters.unspaced import Unspaced
from headrace.filters.words import Words
from headrace.pipeline.errors import HeadraceError
from headrace.pipeline.views import Views, make_signal

REQUIRED_MEBIBYTES = 1024


def read_texts(paths: Sequence[Path]) -> bytes:
    """Return the texts of files, one after the other."""
    texts = (gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes() for path in paths)
    return b"\n".join(texts)


def make_document(once: bytes, num_bytes: int) -> pa.Array:
    """Return a column with one text of about that size."""
    data = (once * (num_bytes // len(once) + 1))[:num_bytes].decode(errors="ignore").encode()
    offsets = np.array([0, len(data)], np.int32).tobytes()
    return pa.StringArray.from_buffers(1, pa.py_buffer(offsets), pa.py_buffer(data))


def peak_mebibytes() -> int:
    """Return the largest resident size that this process has had."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


def measure_all(document: pa.Array, options: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    """Yield a row for each signal that has the given options and can be made without others, in order of name."""
    views = Views(document, pa.array(["https://example.org/"]), None)
    for name, cls in signal_classes().items():
        of_cls: Any = cls
        if not {field.name for field in fields(of_cls)} >= set(options):
            continue
        try:
            signal = make_signal(name, options)
            signal.resources()
        except (HeadraceError, ModelFileError):  # it needs a file of one's own
            continue
        start = time.perf_counter()
        views.measure(signal)
        seconds = round(time.perf_counter() - start, 1)
        row = {"name": name, "ours": peak_mebibytes(), "peer": None, "unit": "MiB peak so far", "ratio": None}
        yield {**row, "spread": None, "required": REQUIRED_MEBIBYTES, "seconds": seconds}


def main(arguments: Sequence[str]) -> None:
    """Print the peak after each signal."""
    parser = ArgumentParser(prog="python -m benchmarks.signal_memory")
    parser.add_argument("files", nargs="*", type=Path)
    parser.add_argument("--of", default="", help="a text to repeat, instead of files")
    parser.add_argument("--megabytes", type=int, default=50)
    parser.add_argument("--words", choices=get_args(Words), help="who cuts words")
    parser.add_argument("--unspaced", choices=get_args(Unspaced), help="what becomes of scripts without spaces")
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    once = options.of.encode() or read_texts(options.files)
    if not once:
        parser.error("name files, or a text with --of")
    document = make_document(once, options.megabytes * 1_000_000)
    chosen = {name: way for name in ("words", "unspaced") if (way := getattr(options, name))}
    rows = list(measure_all(document, chosen))
    if options.json:
        print(json.dumps(rows))
        return
    for row in rows:
        print(f"{row['name']:20}{row['seconds']:8.1f} s{row['ours']:8,} MiB peak so far")


if __name__ == "__main__":
    main(sys.argv[1:])
