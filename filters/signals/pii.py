"""Personal data as spans that replace it: e-mail, IP addresses, phones, cards, bank accounts, national ids.

Each kind has a switch and a replacement of its own. E-mail and public IPv4 addresses are on by default and found as
datatrove 0.10.1's `PIIFormatter` finds them, which is what FineWeb redacts; the others are off, because they would
change that result. The reference takes replacements in turn, so that the outcome depends on the order of documents;
here a finding always becomes the same replacement, chosen by its hash. Where kinds overlap, the order of `Pii.finders`
decides. Redacting a redacted text changes nothing, with two exceptions that the reference's patterns, which look at no
neighbours, make: an IPv4 address that is a piece of a longer number, and e-mail addresses with nothing between them.
"""

import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from functools import partial
from importlib.util import find_spec
from typing import Any, ClassVar
from unicodedata import unidata_version

import numpy as np

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.libraries import library_version
from headrace.filters.pieces import iter_pieces
from headrace.filters.pii.cards import CARD_REPLACEMENTS, find_cards
from headrace.filters.pii.emails import EMAIL_REPLACEMENTS, find_emails
from headrace.filters.pii.finder import Find, Finder, Kinds, blank, choose, find_spans
from headrace.filters.pii.ibans import IBAN_REPLACEMENTS, find_ibans
from headrace.filters.pii.ipv4 import IPV4_REPLACEMENTS, find_ipv4
from headrace.filters.pii.ipv6 import IPV6_REPLACEMENTS, find_ipv6
from headrace.filters.pii.national_id_table import NATIONAL_IDS
from headrace.filters.pii.national_ids import find_national_ids
from headrace.filters.pii.phones import PHONE_REPLACEMENTS, find_phones, known_regions
from headrace.filters.spans import SpanColumn
from headrace.filters.utf8 import Int64s

COUNTS = {
    "num_emails": ("email", "e-mail addresses"),
    "num_ips": ("ip", "IPv4 addresses"),
    "num_ipv6": ("ipv6", "IPv6 addresses"),
    "num_phones": ("phone", "phone numbers"),
    "num_cards": ("card", "payment cards"),
    "num_ibans": ("iban", "international bank account numbers"),
    "num_national_ids": ("national_id", "national identity and tax numbers"),
}


_LINE_END = re.compile("\n")
_NONE = np.empty((0, 3), np.int64)


@register
@dataclass(frozen=True)
class Pii:
    """Where personal data stands, and what replaces it.

    A replacement that is None is chosen among reserved examples, of national ids the digits become 0 and the letters X.
    """

    name: ClassVar[str] = "pii"
    version: ClassVar[int] = 2

    emails: bool = True
    ips: bool = True
    ipv6: bool = False
    phones: bool = False
    cards: bool = False
    ibans: bool = False
    national_ids: bool = False

    only_public_ips: bool = True
    phone_regions: tuple[str, ...] = ()
    national_id_kinds: tuple[str, ...] = tuple(NATIONAL_IDS)

    email_replacement: str | None = None
    ip_replacement: str | None = None
    ipv6_replacement: str | None = None
    phone_replacement: str | None = None
    card_replacement: str | None = None
    iban_replacement: str | None = None
    national_id_replacement: str | None = None

    def __post_init__(self) -> None:
        """Raise ValueError where an id or region is named that there is none of."""
        _check("national_id_kinds", self.national_id_kinds, NATIONAL_IDS)
        if self.phones and self.phone_regions and find_spec("phonenumbers"):
            _check("phone_regions", self.phone_regions, known_regions())

    @property
    def columns(self) -> tuple[Column, ...]:
        """The edit and its counts."""
        labels = ", ".join(f"`{label}`" for label, _ in COUNTS.values())
        return (
            Column("redactions", "spans", f"personal data (labels {labels}) and what replaces it"),
            *(Column(name, "int", f"{what}; null where not looked for") for name, (_, what) in COUNTS.items()),
        )

    def resources(self) -> Mapping[str, str]:
        """Return the version of the Unicode table and of the libraries that the kinds in use need.

        Raises:
            MissingLibraryError: a kind is switched on whose library is not installed.
        """
        used = {"unicode": unidata_version}
        if self.phones:
            used["phonenumbers"] = library_version(
                "phonenumbers", extra="pii", purpose="signal 'pii' with phones = true"
            )
        if self.ibans or self.national_ids:
            purpose = "signal 'pii' with ibans = true or national_ids = true"
            used["python-stdnum"] = library_version("python-stdnum", extra="pii", purpose=purpose)
        return used

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return spans and counts; raises as `resources` does."""
        self.resources()
        finders, kinds = self.finders(), Kinds()
        found = [_find(text, finders, kinds) for text in batch.texts]
        spans = [rows[np.lexsort((rows[:, 1], rows[:, 0]))] for rows in map(_gather, found)]
        offsets = np.cumsum([0, *map(len, spans)], dtype=np.int64)
        starts, ends, numbers = (np.concatenate([rows[:, column] for rows in (*spans, _NONE)]) for column in range(3))
        counts = {
            name: [len(rows[label]) if label in rows else None for rows in found] for name, (label, _) in COUNTS.items()
        }
        return {"redactions": SpanColumn(offsets, starts, ends, numbers, tuple(kinds)), **counts}

    def finders(self) -> tuple[Finder, ...]:
        """Return what is switched on, in order of precedence: the surest kind first, the vaguest last."""
        ipv6 = partial(find_ipv6, only_public=self.only_public_ips)
        ipv4 = partial(find_ipv4, only_public=self.only_public_ips)
        ids = partial(find_national_ids, names=self.national_id_kinds)
        phones = partial(find_phones, regions=self.phone_regions)
        kinds: tuple[tuple[bool, str, Find, str | None, Callable[[str], str], bool], ...] = (
            (self.emails, "email", find_emails, self.email_replacement, choose(EMAIL_REPLACEMENTS), False),
            (self.ipv6, "ipv6", ipv6, self.ipv6_replacement, choose(IPV6_REPLACEMENTS), False),
            (self.ips, "ip", ipv4, self.ip_replacement, choose(IPV4_REPLACEMENTS), False),
            (self.ibans, "iban", find_ibans, self.iban_replacement, choose(IBAN_REPLACEMENTS), True),
            (self.cards, "card", find_cards, self.card_replacement, choose(CARD_REPLACEMENTS), True),
            (self.national_ids, "national_id", ids, self.national_id_replacement, blank, True),
            (self.phones, "phone", phones, self.phone_replacement, choose(PHONE_REPLACEMENTS), True),
        )
        return tuple(
            Finder(label, find, replace if fixed is None else choose((fixed,)), folded)
            for wanted, label, find, fixed, replace, folded in kinds
            if wanted
        )


def _check(option: str, names: Sequence[str], known: Collection[str]) -> None:
    for name in names:
        if name not in known:
            near = get_close_matches(name, known, 1)
            hint = f"did you mean {near[0]!r}?" if near else f"there are {', '.join(sorted(known))}"
            raise ValueError(f"{option}: there is no {name!r}; {hint}")


def _find(text: str, finders: Sequence[Finder], kinds: Kinds) -> dict[str, Int64s]:
    """Return findings by label; a text of many megabytes is searched in pieces of whole lines, to save memory."""
    found: dict[str, list[Int64s]] = {finder.label: [_NONE] for finder in finders}
    before = 0
    for piece in iter_pieces(text, _LINE_END):
        for label, rows in find_spans(piece, finders, kinds).items():
            found[label].append(rows + np.array((before, before, 0)))
        before += len(piece.encode())
    return {label: np.concatenate(rows) for label, rows in found.items()}


def _gather(found: Mapping[str, Int64s]) -> Int64s:
    return np.concatenate([_NONE, *found.values()])
