"""Lists of domains, URLs and words: found, digested and read, one entry a line.

A list is named `KIND:SOURCE`. SOURCE is `datatrove`, the lists that datatrove 0.10 carries (domains and URLs of the
University of Toulouse's UT1 blacklists, words of FineWeb), trusted only with the digests that are pinned here, or a
path with a slash in it, of a text file, plain or .gz. As datatrove reads them, a line that begins with `#` is no entry,
white space around an entry does not count, and words are their letters and digits alone, in lower case.
"""

import codecs
import gzip
import re
import tarfile
import zlib
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path
from typing import IO, cast

from headrace.filters.hash_sets import Hashes, open_set
from headrace.filters.models import ModelFileError, digest_of
from headrace.filters.rules import near_miss

KINDS = ("domain", "url", "word", "soft_word", "subword")
BUILT_IN = "datatrove"
_HOW_TO_GET = "pip install 'headrace[interop]', or from any PyPI mirror: pip install --no-deps datatrove==0.10.1"
_TARBALL = "url_filterblacklistsv0_3_0.tar.gz"
_TARBALL_SHA256 = "b37eefe1f3103dfa46b21b3f407b8b23cec2958ea22028700e6cc44d80f55e9e"
_BLOCK_BYTES = 1 << 22
_NAME = re.compile(r"[A-Za-z0-9_-]+")
_NOT_IN_WORDS = re.compile("[^a-zA-Z0-9]+")

_ASSETS = {
    "domain": (_TARBALL, "domains", _TARBALL_SHA256),
    "url": (_TARBALL, "urls", _TARBALL_SHA256),
    "word": ("banned_words.txt", None, "7aae5109ccc4d8357167168fa3a91331fa2fafd8eb8cc9c38cc9147c2610fab0"),
    "soft_word": ("soft_banned_words.txt", None, "e5043030accca33b0e368a693997576beea4c58279da641bff40b4e02281b063"),
    "subword": ("banned_subwords.txt", None, "4770445cd8d2b16495efde88bc4efc3a520bdc0f3137d14d85cd3d89b194a232"),
}
"""By kind: file among datatrove's assets, member of it, sha256 of the file."""

Form = Callable[[bytes], bytes]


class UrlListError(ModelFileError):
    """A list is absent, another than the pinned one, or cannot be read; the message says what would be right."""


@dataclass(frozen=True, slots=True)
class UrlList:
    """A list that is here: what its entries are, the name it goes by, and the file that holds them."""

    kind: str
    name: str
    path: Path
    member: str | None
    sha256: str

    def __str__(self) -> str:
        return f"{self.kind}:{self.name}"


def check_list_names(names: tuple[str, ...]) -> None:
    """Raise ValueError for a name that cannot be, and for two that would be told apart by nothing."""
    labels = [f"{kind}:{_label(source)}" for kind, source in map(_split, names)]
    for label in labels:
        if labels.count(label) > 1:
            raise ValueError(f"two lists are called {label}; give one of the files another name")


def list_kinds(names: tuple[str, ...]) -> frozenset[str]:
    """Return the kinds that lists of these names are of."""
    return frozenset(_split(name)[0] for name in names)


def find_list(name: str) -> UrlList:
    """Return the list of a name.

    Raises:
        ValueError: no list could have that name.
        UrlListError: its file is not here, or is another one than is pinned.
    """
    kind, source = _split(name)
    if source != BUILT_IN:
        path = Path(source).expanduser()
        return UrlList(kind, _label(source), path, None, _digest(path))
    file, member, pinned = _ASSETS[kind]
    path = _assets_folder() / file
    if (digest := _digest(path)) != pinned:
        raise UrlListError(f"{path} has sha256 {digest}, the list {name} has {pinned}: {_HOW_TO_GET}")
    return UrlList(kind, BUILT_IN, path, member, digest)


def _split(name: str) -> tuple[str, str]:
    kind, colon, source = name.partition(":")
    if kind not in KINDS or not colon:
        raise ValueError(
            f"{name!r} is no list{near_miss(kind, KINDS)}; write KIND:SOURCE, KIND one of {', '.join(KINDS)}"
        )
    if source != BUILT_IN and "/" not in source:
        raise ValueError(
            f"{name!r}: there is no built-in list {source!r}{near_miss(source, [BUILT_IN])}; "
            f"a file is written with a slash, as in {kind}:./{source or 'list.txt'}"
        )
    if not _NAME.fullmatch(_label(source)):
        raise ValueError(f"{name!r}: a list goes by its file's name up to the first dot, of letters, digits, - and _")
    return kind, source


def _label(source: str) -> str:
    return source.rpartition("/")[2].partition(".")[0]


def _assets_folder() -> Path:
    spec = find_spec("datatrove")  # a look at the file system; the package itself is not imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        return Path(folder) / "assets"
    raise UrlListError(f"the lists that datatrove carries are not here: {_HOW_TO_GET}")


def _digest(path: Path) -> str:
    try:
        return digest_of(path)
    except ModelFileError as error:
        raise UrlListError(f"list {error}") from None


@cache
def load_words(words: UrlList) -> frozenset[str]:
    """Return the entries of a list of words, read once a process; raises UrlListError."""
    spelled = (_NOT_IN_WORDS.sub("", entry.decode("utf-8", "replace")).lower() for entry in read_entries(words))
    return frozenset(filter(None, spelled))


@cache
def load_hashes(entries: UrlList, form: Form | None = None) -> Hashes:
    """Return the sorted hashes of a list's entries, each in a form, opened once a process (`filters.hash_sets`).

    Raises:
        UrlListError: the list cannot be read, or changes while it is.
    """
    made_from = ["headrace list 1", entries.sha256, entries.member or "", form.__name__ if form else ""]
    key = sha256("\n".join(made_from).encode()).hexdigest()
    return open_set(
        f"{entries.kind}-{entries.name}",
        key,
        lambda: map(form, read_entries(entries)) if form else read_entries(entries),
    )


def read_entries(entries: UrlList) -> Iterator[bytes]:
    """Yield the entries of a list as bytes; raises UrlListError where it cannot be read, or changes while it is."""
    try:
        with _open(entries) as file:
            for lines in _blocks_of_lines(file, entries.path):
                found = [entry for line in lines if (entry := line.strip()) and not line.startswith(b"#")]
                _check(found, entries)
                yield from found
    except (OSError, EOFError, zlib.error, tarfile.TarError) as error:
        raise UrlListError(f"list {entries.path}: cannot be read: {error}") from None
    if _digest(entries.path) != entries.sha256:
        raise UrlListError(f"list {entries.path}: has changed since it was looked at; start again")


def _blocks_of_lines(file: IO[bytes], path: Path) -> Iterator[list[bytes]]:
    """Yield the lines of a file, many at a time; a byte order mark at its start is left out."""
    rest = file.read(_BLOCK_BYTES).removeprefix(codecs.BOM_UTF8)
    while block := file.read(_BLOCK_BYTES):
        *lines, rest = (rest + block).split(b"\n")
        if len(rest) > _BLOCK_BYTES:
            raise UrlListError(f"list {path}: has a line of over {_BLOCK_BYTES:,} bytes; write one entry a line")
        yield lines
    yield rest.split(b"\n")


def _check(found: list[bytes], entries: UrlList) -> None:
    refused = b" \t\0" if entries.kind == "domain" else b"\0"
    together = b"\n".join(found)
    if any(bytes([byte]) in together for byte in refused):
        (entry, *_) = [entry for entry in found if any(byte in entry for byte in refused)]
        raise UrlListError(f"list {entries.path}: {entry[:60]!r} is no entry of kind {entries.kind}; write one a line")


@contextmanager
def _open(entries: UrlList) -> Iterator[IO[bytes]]:
    with ExitStack() as stack:
        if entries.member is None:
            file = stack.enter_context(entries.path.open("rb"))
            yield cast(IO[bytes], gzip.GzipFile(fileobj=file)) if entries.path.suffix == ".gz" else file
            return
        archive = stack.enter_context(tarfile.open(entries.path, "r:gz"))
        member = archive.extractfile(entries.member)
        assert member is not None  # the archive is the pinned one
        yield stack.enter_context(member)
