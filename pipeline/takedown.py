"""Takedown: hiding documents of a corpus at once, while its parts stay as they are.

What is to go becomes a suppression of the store, so that no later build has it. The corpus that is there gets a
*deletion vector*: an artifact that names the rows which suppressions in force cover, by ids, URLs and digests. Streams
of its tokens do not serve them (`trainer.streaming`): the order stays what it was, their tokens are masked in place.
"""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.artifacts import make_one
from headrace.pipeline.build_chain import Way
from headrace.pipeline.dedup.membership import SUPPRESSED
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import InputError
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.suppress import Suppress
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import What, as_config, suppress
from headrace.pipeline.tables import read_batches

Named = tuple[What, str]


@dataclass(frozen=True)
class Held:
    """A document that was left out in favour of one that is taken down; it is not promoted, but held for review."""

    doc_id: str
    survivor: str
    step: str


@dataclass(frozen=True)
class TakenDown:
    """What a takedown did: the records that it added, and the deletion vector of the corpus with what it hides."""

    records: tuple[str, ...]
    named: tuple[Named, ...]
    vector: Path | None
    hidden: tuple[str, ...]
    held: tuple[Held, ...]


def take_down(path: Path, named: Sequence[Named], reason: str, date: str = "") -> TakenDown:
    """Suppress what is named in the store of a corpus, and hide it in the corpus.

    Args:
        path: The corpus: its manifest, folder or a part of it.
        named: What to take down.
        reason: Why, in words.
        date: When it was asked for.

    Raises:
        InputError: the path is no corpus, or a value is none of its kind.
    """
    way = Way.to(path)
    if way.manifest.table != "corpus":
        raise InputError(f"{path}: a manifest of {way.manifest.table!r}; name the one of the corpus")
    store = Store.open(way.store.root)
    records = tuple(suppress(store, what, value, reason, date).name for what, value in named)
    vector = deletion_vector(way.manifest, store)
    hidden = hidden_ids(way.manifest, store)
    held = tuple(_held(way.chain, store, hidden))
    where = None if vector is None else store.find_manifest(vector.stage, vector.key)
    return TakenDown(records, tuple(named), where, tuple(sorted(hidden)), held)


def deletion_vector(corpus: Manifest, store: Store) -> Manifest | None:
    """Return the artifact that names the rows of a corpus which suppressions in force cover; None without any."""
    entries = as_config(store)
    if not entries:
        return None
    stage = Suppress(entries=entries)
    return make_one("deletion vector", stage, {"documents": corpus}, store, InlineEngine())


def hidden_ids(corpus: Manifest, store: Store) -> frozenset[str]:
    """Return the ids of the documents of a corpus that are hidden."""
    vector = deletion_vector(corpus, store)
    if vector is None:
        return frozenset()
    found: set[str] = set()
    for part in range(len(vector.parts)):
        for batch in read_batches(store.part_path(vector, part), ["doc_id", "reason"]):
            rows = batch.to_pylist()
            found.update(row["doc_id"] for row in rows if row["reason"] == SUPPRESSED)
    return frozenset(found)


def _held(chain: Sequence[Manifest], store: Store, hidden: Iterable[str]) -> Iterator[Held]:
    """Yield what steps that look for duplicates left out for a document that is hidden now."""
    gone = set(hidden)
    for step in (one for one in chain if one.table == "findings"):
        for part in range(len(step.parts)):
            for batch in read_batches(store.part_path(step, part), ["doc_id", "survivor"]):
                for row in batch.to_pylist():
                    if row["survivor"] in gone and row["doc_id"] not in gone:
                        yield Held(row["doc_id"], row["survivor"], step.name)


def read_list(path: Path) -> list[Named]:
    """Return what a file names: a line of 32 hexadecimal digits is a document, one with a slash a URL, else a domain.

    Raises:
        InputError: the file cannot be read, or names nothing.
    """
    try:
        lines = [line.strip() for line in path.read_text(encoding="utf-8").splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read as UTF-8 text: {error}") from None
    named = [(_kind(line), line) for line in lines if line and not line.startswith("#")]
    if not named:
        raise InputError(f"{path}: names nothing; write a document's id, a URL or a domain on each line")
    return named


def _kind(line: str) -> What:
    if len(line) == 32 and set(line.lower()) <= set("0123456789abcdef"):
        return "doc_id"
    return "url" if "/" in line else "domain"
