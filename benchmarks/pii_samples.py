"""Made-up personal data: valid by the authority of its kind, and near misses of it, drawn from a seed."""

import random
import re
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv6Address
from itertools import pairwise
from typing import NamedTuple

from headrace.filters.pii.cards import CARD_REPLACEMENTS, is_card, passes_luhn
from headrace.filters.pii.ibans import is_iban
from headrace.filters.pii.ipv4 import is_public_ipv4
from headrace.filters.pii.national_id_table import NATIONAL_IDS
from headrace.filters.pii.national_ids import is_national_id

Make = Callable[[random.Random], str]

_NAMES = ("anna", "j.smith", "k_o'brien", "li.wei", "maria+news", "o.n.e", "x", "first.last")
_HOSTS = ("example.net", "mail.example.org", "uni-x.ac.uk", "a.b.c.de", "firma.example", "post.co.jp")
_CARDS = (("4", 16), ("51", 16), ("2500", 16), ("37", 15), ("36", 14), ("6011", 16), ("3530", 16), ("6221", 19))
_GROUPS = {14: (4, 6, 4), 15: (4, 6, 5), 16: (4, 4, 4, 4), 19: (4, 4, 4, 4, 3)}
_PLACES = {"9": "0123456789", "A": "ABCDEFGHIJKLMNOPQRSTUVWXYZ"}
# Of numbers that contain a place or a name: a valid one, whose last characters are drawn anew.
_STEMS = {"cn.ric": "360426199101010071", "mx.curp": "BOXW310820HNERXN09", "my.nric": "770305-02-1234"}
_ANNOUNCED = {
    "at.vnr": "Sozialversicherungsnummer", "au.tfn": "TFN", "bg.egn": "ЕГН", "ca.sin": "SIN", "cz.rc": "rodné číslo",
    "gb.nhs": "NHS number", "ee.ik": "isikukood", "gr.amka": "AMKA", "hr.oib": "OIB", "id.nik": "NIK", "ie.pps": "PPS",
    "in_.aadhaar": "Aadhaar", "in_.pan": "PAN", "jp.in_": "My Number", "lt.asmens": "asmens kodas", "nl.bsn": "BSN",
    "pl.pesel": "PESEL", "pt.nif": "NIF", "ro.cnp": "CNP", "si.emso": "EMŠO", "tr.tckimlik": "T.C. kimlik no",
}  # fmt: skip


class Sample(NamedTuple):
    """What is planted: words that lead to it, the data and a near miss of it."""

    lead: str
    text: str
    near_miss: str


def change_digit(text: str, drawn: random.Random) -> str:
    """Return a text with one of its digits another."""
    place = drawn.choice([match.start() for match in re.finditer(r"\d", text)])
    return text[:place] + drawn.choice("0123456789".replace(text[place], "")) + text[place + 1 :]


def make_samples(count: int, seed: int = 0) -> Mapping[str, list[Sample]]:
    """Return samples by name of kind."""
    kinds: Mapping[str, Callable[[random.Random], Sample]] = {
        "email": _email,
        "ip": _ipv4,
        "ipv6": _ipv6,
        "iban": _iban,
        "card": _card,
        "national_id, alone": lambda drawn: _national_id(drawn, True),
        "national_id, announced": lambda drawn: _national_id(drawn, False),
        "phone, international": lambda drawn: _phone(drawn, None),
        "phone, national": lambda drawn: _phone(drawn, ("US", "GB", "DE")),
    }
    return {name: [make(random.Random(f"{seed} {name} {n}")) for n in range(count)] for name, make in kinds.items()}


def _email(drawn: random.Random) -> Sample:
    name, host = drawn.choice(_NAMES) + str(drawn.randrange(100)), drawn.choice(_HOSTS)
    return Sample("write to", f"{name}@{host}", f"{name}@{host.partition('.')[0]}")


def _ipv4(drawn: random.Random) -> Sample:
    address = next(ip for ip in iter(lambda: IPv4Address(drawn.getrandbits(32)), None) if is_public_ipv4(ip))
    return Sample("from", str(address), f"10.{str(address).partition('.')[2]}")


def _ipv6(drawn: random.Random) -> Sample:
    zeros = drawn.choice((0, 32, 64))
    address = IPv6Address((0x2A00 << 112) | drawn.getrandbits(100) >> zeros << zeros)
    text = drawn.choice((address.compressed, address.exploded, address.compressed.upper()))
    return Sample("from", text, "fd" + text[2:])


def _iban(drawn: random.Random) -> Sample:
    from stdnum import iban, numdb

    country = drawn.choice(("DE", "FR", "GB", "NL", "BE", "ES", "IT", "CH", "AT", "PL", "NO", "PT", "MT", "BR", "SA"))
    structure = numdb.get("iban").info(country)[0][1]["bban"]
    places = {"n": _PLACES["9"], "a": _PLACES["A"], "c": _PLACES["9"] + _PLACES["A"]}
    while True:
        parts = re.findall(r"([0-9]+)!([nac])", structure)
        bban = "".join(drawn.choice(places[kind]) for length, kind in parts for _ in range(int(length)))
        number = country + iban.calc_check_digits(f"{country}00{bban}") + bban
        if is_iban(number):
            text = drawn.choice((number, iban.format(number)))
            return Sample("IBAN", text, text[:2] + change_digit(text[2:], drawn))


def _card(drawn: random.Random) -> Sample:
    prefix, length = drawn.choice(_CARDS)
    while True:
        digits = prefix + "".join(drawn.choice("0123456789") for _ in range(length - len(prefix)))
        if passes_luhn(digits) and is_card(digits) and digits not in CARD_REPLACEMENTS:
            separator = drawn.choice(("", " ", "-"))
            ends = [sum(_GROUPS[length][:i]) for i in range(len(_GROUPS[length]) + 1)]
            groups = [digits[a:b] for a, b in pairwise(ends)]
            text = separator.join(groups)
            return Sample("card", text, change_digit(text, drawn))


def _national_id(drawn: random.Random, alone: bool) -> Sample:
    names = [name for name, item in NATIONAL_IDS.items() if (item.alone if alone else name in _ANNOUNCED)]
    item = NATIONAL_IDS[drawn.choice(names)]
    form = drawn.choice(item.alone if alone else item.beside)
    number = next(number for number in _drawn_numbers(item.name, form, drawn) if is_national_id(item.name, number))
    return Sample("it says" if alone else _ANNOUNCED[item.name], number, change_digit(number, drawn))


def _drawn_numbers(name: str, form: str, drawn: random.Random) -> Iterator[str]:
    stem = _STEMS.get(name, "")[:-4]
    if name in _STEMS:
        form = re.sub("[0-9]", "9", re.sub("[A-Z]", "A", _STEMS[name]))
    while True:
        yield stem + "".join(drawn.choice(_PLACES.get(place, place)) for place in form[len(stem) :])


def _phone(drawn: random.Random, regions: tuple[str, ...] | None) -> Sample:
    import phonenumbers as library

    region = drawn.choice(regions or tuple(sorted(library.SUPPORTED_REGIONS)))
    kind = drawn.choice((library.PhoneNumberType.MOBILE, library.PhoneNumberType.FIXED_LINE))
    number = library.example_number_for_type(region, kind) or library.example_number(region)
    assert number is not None
    example = library.national_significant_number(number)
    varied = number
    for _ in range(20):
        national = example[:-4] + f"{drawn.randrange(10_000):04}"
        changed = library.parse(f"+{number.country_code}{national}")
        if library.is_valid_number(changed) and "55501" not in national:
            varied = changed
            break
    formats = library.PhoneNumberFormat
    chosen = formats.NATIONAL if regions else drawn.choice((formats.INTERNATIONAL, formats.E164))
    text = library.format_number(varied, chosen)
    return Sample("call", text, change_digit(text, drawn))
