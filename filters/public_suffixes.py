"""The Public Suffix List (publicsuffix.org): which end of a host name a registry hands out names under, read offline.

The list is the file that the distribution `tld` carries, of which only the section of public registries counts
(`github.io` belongs to one owner, so it is no suffix). It is read here as data, because that library's own loader goes
to the network where the file is missing. The walk is that of tldextract 5.4's `suffix_index`, and a label may be
written in Unicode or in its ASCII form (`xn--...`); a name under no known suffix has none.
"""

from collections.abc import Sequence
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from headrace.filters.models import ModelFileError

_PATH_IN_PACKAGE = "res/effective_tld_names.dat.txt"
_PRIVATE_SECTION = "// ===BEGIN PRIVATE DOMAINS==="
_END = None  # which no label can be

SuffixTree = dict[str | None, Any]


def find_suffix(labels: Sequence[str]) -> int | None:
    """Return the index of the label with which a name's public suffix begins; None without one."""
    node = _suffix_tree()
    found = None
    for index in range(len(labels) - 1, -1, -1):
        label = labels[index].lower()
        child = node.get(label)
        if child is None:
            if "*" in node:
                return index + 1 if f"!{label}" in node else index
            break
        node = child
        if _END in node:
            found = index
    return found


def public_suffix_digest() -> str:
    """Return the sha256 of the list; raises ModelFileError where it is not installed."""
    return _read_list()[1]


@cache
def _suffix_tree() -> SuffixTree:
    """Return the suffixes of public registries as nested dictionaries of labels, from the right."""
    root: SuffixTree = {}
    public, _, _ = _read_list()[0].partition(_PRIVATE_SECTION)
    for line in public.splitlines():
        if line.strip() and not line.startswith("//"):
            _add(root, line.split()[0])
    return root


def _add(node: SuffixTree, suffix: str) -> None:
    for label in reversed(suffix.split(".")):
        parent, node = node, node.setdefault(label, {})
        if not label.isascii():
            parent[f"xn--{label.encode('punycode').decode('ascii')}"] = node
    node[_END] = True


@cache
def _read_list() -> tuple[str, str]:
    """Return the text of the list and its digest."""
    data = list_path().read_bytes()
    return data.decode("utf-8"), sha256(data).hexdigest()


def list_path() -> Path:
    """Return where the list lies; raises ModelFileError where it is not installed."""
    spec = find_spec("tld")  # a look at the file system; the package itself is not imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        path = Path(folder) / _PATH_IN_PACKAGE
        if path.is_file():
            return path
    raise ModelFileError(f"the Public Suffix List ({_PATH_IN_PACKAGE} of the package tld) is not here: pip install tld")
