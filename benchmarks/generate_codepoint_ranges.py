"""Write the ranges of code points that `headrace.filters.signals.text_damage` reads, so that no Python decides them.

Run as `python -m benchmarks.generate_codepoint_ranges` with Python 3.11, whose Unicode (14.0) is the oldest that a
supported Python has. What is assigned today is what the installed `regex` says.
"""

import json
import re
import sys
import unicodedata
from collections.abc import Callable
from importlib.metadata import metadata
from pathlib import Path

import regex

OUTPUT = Path(__file__).parents[1] / "filters" / "data" / "codepoint_ranges.json"
_OLDEST = "14.0.0"


def ranges_of(belongs: Callable[[str], object]) -> list[list[int]]:
    """Return the code points that belong, as closed ranges in order."""
    ranges: list[list[int]] = []
    for code in filter(lambda code: belongs(chr(code)), range(sys.maxunicode + 1)):
        if ranges and ranges[-1][1] == code - 1:
            ranges[-1][1] = code
        else:
            ranges.append([code, code])
    return ranges


def regex_unicode() -> str:
    """Return the version of Unicode that the installed `regex` knows, as its own description states it."""
    found = re.search(r"supports Unicode (\d+\.\d+\.\d+)", metadata("regex").get_payload())
    if found is None:
        raise SystemExit("regex does not say which Unicode it supports; look at its description")
    return found[1]


def main() -> None:
    """Write the ranges."""
    if unicodedata.unidata_version != _OLDEST:
        raise SystemExit(f"run with the Python of Unicode {_OLDEST}, this one has {unicodedata.unidata_version}")
    unassigned = regex.compile(r"\p{Cn}")
    tables = {
        "unicode": regex_unicode(),
        "oldest": _OLDEST,
        "unassigned": ranges_of(unassigned.match),
        "newer": ranges_of(lambda c: unicodedata.category(c) == "Cn" and not unassigned.match(c)),
    }
    OUTPUT.write_text(json.dumps(tables, separators=(",", ":")) + "\n", encoding="utf-8")
    print(f"{OUTPUT}: {len(tables['unassigned'])} + {len(tables['newer'])} ranges, Unicode {tables['unicode']}")


if __name__ == "__main__":
    main()
