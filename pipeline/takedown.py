"""Takedown: hiding documents of a corpus at once, while its parts stay as they are.

What is to go becomes a suppression of the store, so that no later build has it. The corpus that is there gets a
*deletion vector*: an artifact that names the rows which suppressions in force cover, by ids, URLs and digests. Streams
of its tokens do not serve them (`trainer.streaming`): the order stays what it was, their tokens are masked in place.
"""

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pyarrow as pa
import pyarrow.compute as pc

from headrace.pipeline.ancestry import manifest_of
from headrace.pipeline.artifacts import make_one
from headrace.pipeline.dedup.membership import SUPPRESSED
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import InputError
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.earlier import Earlier
from headrace.pipeline.stages.suppress import Suppress
from headrace.pipeline.store import Store
from headrace.pipeline.suppressions import What, as_config, normal_value, suppress_all
from headrace.pipeline.tables import read_batches

Named = tuple[What, str]
_FINDINGS = "findings-00000.parquet"


@dataclass(frozen=True)
class Held:
    """A document that resembles one that is taken down, `survivor`; it is not promoted, but held for review."""

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
    found = manifest_of(path)
    store, corpus = Store.containing(found), Manifest.load(found)
    if corpus.table != "corpus":
        raise InputError(f"{path}: a manifest of {corpus.table!r}; name the one of the corpus")
    records = tuple(one.name for one in suppress_all(store, named, reason, date))
    vector = deletion_vector(corpus, store)
    hidden = hidden_ids(corpus, store)
    held = tuple(held_for({*hidden, *(normal_value(what, value) for what, value in named if what == "doc_id")}, store))
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


def held_for(doc_ids: Collection[str], store: Store) -> list[Held]:
    """Return the documents that steps of any build found to be in a cluster with one that goes, or dropped for it."""
    found: dict[str, Held] = {}
    gone = set(doc_ids)
    for path in store.manifests():
        if path.parent.parent.name == Earlier.name or path.with_name(_FINDINGS).exists():
            for held in _held(Manifest.load(path), store, gone):
                found.setdefault(held.doc_id, held)
    return sorted(found.values(), key=lambda held: held.doc_id)


def _held(step: Manifest, store: Store, gone: set[str]) -> Iterator[Held]:
    paths = [store.part_path(step, part) for part in range(len(step.parts))]
    columns = ["doc_id", "survivor", "cluster"]
    named = pa.array(sorted(gone), pa.string())
    clusters: dict[str, str] = {}
    for batch in (batch for path in paths for batch in read_batches(path, columns)):
        for row in batch.filter(_any_in(batch, columns, named)).to_pylist():
            if row["cluster"] is not None:
                clusters[row["cluster"]] = next(row[name] for name in columns if row[name] in gone)
            if row["doc_id"] in gone and row["survivor"] is not None and row["survivor"] not in gone:
                clusters[row["survivor"]] = row["doc_id"]
                yield Held(row["survivor"], row["doc_id"], step.name)  # an earlier corpus' has no row here
    both = pa.array(sorted({*gone, *clusters}), pa.string())
    for batch in (batch for path in paths for batch in read_batches(path, columns)):
        for row in batch.filter(_any_in(batch, columns[1:], both)).to_pylist():
            found = (clusters[name] for name in (row["survivor"], row["cluster"]) if name in clusters)
            survivor = row["survivor"] if row["survivor"] in gone else next(found, None)
            if row["doc_id"] not in gone and survivor is not None:
                yield Held(row["doc_id"], survivor, step.name)


def _any_in(batch: pa.RecordBatch, columns: Sequence[str], values: pa.Array) -> pa.Array:
    flags = [pc.is_in(batch.column(name), values) for name in columns]
    return reduce(pc.or_, flags)


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
