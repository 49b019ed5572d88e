"""Suppressions: what was taken down and must not come back, as records of the store that every build asks.

A record names a URL, a domain with all that is below it, a document, or a text or payload by its digest. Records are
only added: a suppression ends by another record that withdraws it, so that who asks later sees both. Their order does
not matter, and two stores with the same suppressions decide alike: what is given again after that names the withdrawal.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from hashlib import sha256
from itertools import accumulate
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, SerializerFunctionWrapHandler, model_serializer

from headrace.filters.rules import near_miss
from headrace.filters.urls import canonical_url, split_url
from headrace.pipeline.errors import HeadraceError, InputError
from headrace.pipeline.schema import Manifest, Signed
from headrace.pipeline.store import Store, put_if_absent, replace, writing
from headrace.pipeline.tables import read_batches

What = Literal["url", "domain", "doc_id", "text", "payload"]
FOLDER = "suppressions"
NAMES = "suppressions.json"


class Suppression(Signed):
    """One record: what was taken down, why, and when (as whoever added it says); or which record it `withdraws`.

    `again` is the digest of the record that withdrew the same suppression before, where it was given again; without
    one it does not stand in the record, so that names are what they were.
    """

    kind: Literal["headrace.suppression"] = "headrace.suppression"
    what: What
    value: str
    reason: str
    date: str = ""
    withdraws: str = ""
    again: str = ""

    @model_serializer(mode="wrap")
    def _leave_out_no_again(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields: dict[str, Any] = serialize(self)
        if not self.again:
            fields.pop("again", None)
        return fields

    @property
    def name(self) -> str:
        """What the record is called by."""
        return self.digest[:16]


class SuppressionNames(Signed):
    """`suppressions.json`: the names of all records, sorted, for those who read where folders cannot be listed."""

    kind: Literal["headrace.suppressions"] = "headrace.suppressions"
    names: tuple[Annotated[str, Field(pattern=r"^[0-9a-f]{16}$")], ...] = ()


def text_digest(text: str) -> str:
    """Return the digest by which a text is taken down: SHA-256 of its words, joined by single spaces."""
    return sha256(" ".join(text.split()).encode(errors="replace")).hexdigest()


def normal_value(what: What, value: str) -> str:
    """Return a value as it is compared.

    Raises:
        InputError: it is none of that kind.
    """
    value = value.strip()
    if what == "url":
        if "/" not in value and "." not in value:
            raise InputError(f"{value!r} is no URL; write one as in https://example.org/page")
        return canonical_url(value if "//" in value else f"https://{value}")
    if what == "domain":
        parts = split_url(value)
        if not parts.domain and not parts.is_ip:
            raise InputError(f"{value!r} is no domain that somebody owns; write one as in example.org")
        return parts.host.lower().removeprefix("www.")
    digits = 32 if what == "doc_id" else 64
    if len(value) != digits or not set(value.lower()) <= set("0123456789abcdef"):
        raise InputError(f"{value!r} is no {what}; it has {digits} hexadecimal digits")
    return value.lower()


def names_of(document: Mapping[str, Any]) -> Iterator[tuple[What, str]]:
    """Yield all that a document can be taken down by, the narrowest first; columns that are not there name nothing."""
    yield "doc_id", document["doc_id"]
    if "text" in document:
        yield "text", text_digest(document["text"])
    if "payload_digest" in document:
        yield "payload", document["payload_digest"]
    if document["url"]:
        yield "url", canonical_url(document["url"])
        labels = split_url(document["url"]).host.lower().removeprefix("www.").split(".")
        hosts = accumulate(reversed(labels), lambda host, label: f"{label}.{host}")
        yield from (("domain", host) for host in reversed(list(hosts)))


def suppress(store: Store, what: What, value: str, reason: str, date: str = "") -> Suppression:
    """Add a suppression to a store, if it is not in force there; see `suppress_all` for errors."""
    (record,) = suppress_all(store, [(what, value)], reason, date)
    return record


def suppress_all(
    store: Store, named: Iterable[tuple[What, str]], reason: str, date: str = ""
) -> tuple[Suppression, ...]:
    """Add suppressions to a store, those that are not in force there; return all, in order.

    Raises:
        InputError: a value is none of its kind; nothing is added then.
        IntegrityError: a record of the store is damaged.
    """
    wanted = [Suppression(what=what, value=normal_value(what, one), reason=reason, date=date) for what, one in named]
    ends = {record.withdraws: record.digest for _, record in records(store) if record.withdraws}
    made = tuple(_again(record, ends) for record in wanted)
    _put(store, made)
    return made


def _again(record: Suppression, ends: Mapping[str, str]) -> Suppression:
    """Return a record as it is in force after all withdrawals; `ends` has their digests by those of what they end."""
    while record.digest in ends:
        record = Suppression(**{**dict(record), "again": ends[record.digest], "digest": ""})
    return record


def withdraw(store: Store, name: str, reason: str, date: str = "") -> Suppression:
    """End a suppression by a record that says so.

    Raises:
        InputError: no suppression that is in force is called so.
    """
    known = {one.name: one for one in in_force(store)}
    if name not in known:
        raise InputError(f"no suppression in force is called {name!r}{near_miss(name, known)}; see `suppress list`")
    one = known[name]
    end = Suppression(what=one.what, value=one.value, reason=reason, date=date, withdraws=one.digest)
    _put(store, [end])
    return end


def _put(store: Store, made: Iterable[Suppression]) -> None:
    for record in made:
        path = store.root / FOLDER / f"{record.name}.json"
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            put_if_absent(path, record.render())
    write_names(store)


def write_names(store: Store) -> None:
    """Make `suppressions.json` name the records that are there.

    It is compared again after it was written: of several that write at once the last one sees the records of all.
    """
    path = store.root / NAMES
    while _known_names(path) != (there := names_there(store)):
        with writing(path):
            replace(path, SuppressionNames(names=there).render())


def _known_names(path: Path) -> tuple[str, ...] | None:
    try:
        return SuppressionNames.load(path).names
    except HeadraceError:  # it is not there, or damaged
        return None


def names_there(store: Store) -> tuple[str, ...]:
    """Return the names of all records, sorted."""
    return tuple(sorted(path.stem for path in (store.root / FOLDER).glob(f"{'[0-9a-f]' * 16}.json")))


def records(store: Store) -> Iterator[tuple[Path, Suppression]]:
    """Yield all records with their paths, by name; raises IntegrityError for a damaged one."""
    for path in sorted((store.root / FOLDER).glob("[!.]*.json")):
        yield path, Suppression.load(path)


def in_force(store: Store) -> list[Suppression]:
    """Return the suppressions that no record withdraws, by what they are about."""
    everything = [record for _, record in records(store)]
    gone = {record.withdraws for record in everything}
    left = [record for record in everything if not record.withdraws and record.digest not in gone]
    return sorted(left, key=lambda record: (record.what, record.value, record.digest))


@dataclass(frozen=True)
class StillHeld:
    """A document of a corpus that a suppression in force names; builds after it leave it out."""

    corpus: str
    doc_id: str
    url: str | None
    what: What
    value: str


def still_held(store: Store) -> Iterator[StillHeld]:
    """Yield the documents of all corpora of a store that were taken down since."""
    from headrace.pipeline.stages.suppress import COLUMN_OF, Suppress

    stage, columns = Suppress(entries=as_config(store)), ["doc_id", "url", *COLUMN_OF.values()]
    for path in store.manifests("cut"):
        manifest = Manifest.load(path)
        for part in range(len(manifest.parts)):
            for batch in read_batches(store.part_path(manifest, part), columns):
                for document in batch.to_pylist():
                    if (entry := stage.entry_for(document)) is not None:
                        told = (str(path), document["doc_id"], document["url"])
                        yield StillHeld(*told, entry["what"], entry["value"])  # type: ignore[arg-type]


def as_config(store: Store) -> tuple[dict[str, Any], ...]:
    """Return what is in force as the config of a stage: each thing once, with the first reason."""
    found = {(one.what, one.value): one.reason for one in reversed(in_force(store))}
    return tuple({"what": what, "value": value, "reason": reason} for (what, value), reason in sorted(found.items()))
