"""Personal data: each kind is found in every form that it is written in, near misses are not, and none is dear."""

import ipaddress
import random
from importlib import import_module
from importlib.metadata import PackageNotFoundError
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.console import explain
from headrace.filters import libraries
from headrace.filters.contract import TextBatch
from headrace.filters.libraries import MissingLibraryError
from headrace.filters.pii.cards import CARD_REPLACEMENTS, find_cards, passes_luhn
from headrace.filters.pii.emails import find_emails
from headrace.filters.pii.finder import find_spans, to_byte_rows
from headrace.filters.pii.folding import fold
from headrace.filters.pii.ibans import IBAN_REPLACEMENTS, find_ibans
from headrace.filters.pii.ipv4 import is_redactable_ipv4
from headrace.filters.pii.ipv6 import IPV6_REPLACEMENTS, find_ipv6, is_redactable_ipv6
from headrace.filters.pii.national_id_table import NATIONAL_IDS
from headrace.filters.pii.national_ids import find_national_ids, is_national_id
from headrace.filters.pii.phones import PHONE_REPLACEMENTS, find_phones
from headrace.filters.signals.pii import Pii
from headrace.filters.spans import apply_spans
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import Views, make_signal

ALL = {"ipv6": True, "phones": True, "cards": True, "ibans": True, "national_ids": True}
EVERYTHING = Pii(**ALL, phone_regions=("US", "GB", "DE"))
KINDS = tuple(ALL)


def measure(text: str, signal: Pii) -> dict[str, Any]:
    return {name: values[0] for name, values in signal.measure(TextBatch([text], [""])).items()}


def redact(text: str, signal: Pii) -> str:
    return apply_spans(text, measure(text, signal)["redactions"])


def found(find: Any, text: str, *arguments: Any) -> list[str]:
    return [text[start:end] for start, end in find(fold(text), *arguments)]


def test_redactions_replace_an_address_alike_everywhere() -> None:
    texts = ["é: me@example.net, 8.8.8.8", "8.8.8.8 and 10.0.0.1 (me@example.net)"]
    values = Pii().measure(TextBatch(texts, ["", ""]))
    redacted = [apply_spans(*pair) for pair in zip(texts, values["redactions"], strict=True)]
    assert values["num_emails"] == values["num_ips"] == [1, 1]
    email, ip = redacted[0].removeprefix("é: ").split(", ")
    assert redacted[1] == f"{ip} and 10.0.0.1 ({email})"
    alone = measure(texts[1], Pii(only_public_ips=False, emails=False))
    assert (alone["num_ips"], alone["num_emails"]) == (2, None)


address_parts = st.sampled_from([*"ab1.@-[]:é _+2", "192.", "8.8", "255", "..", ".1", ".com"])


@settings(max_examples=600, deadline=None)
@given(st.lists(address_parts, max_size=30).map("".join))
def test_addresses_are_those_that_datatrove_finds(text: str) -> None:
    pii = pytest.importorskip("datatrove.pipeline.formatters.pii")
    formatter = pii.PIIFormatter(email_replacement="\ue000", ip_replacement="\ue001")
    assert list(find_emails(text)) == [match.span() for match in formatter.emails_replacer.regex.finditer(text)]
    marked = Pii(email_replacement="\ue000", ip_replacement="\ue001")
    assert redact(text, marked) == formatter.format(text)


def test_public_ipv4_addresses_are_those_of_the_registry() -> None:
    drawn = random.Random(4)
    for _ in range(3000):
        address = ipaddress.IPv4Address(drawn.getrandbits(32))
        if address not in ipaddress.IPv4Network("192.0.0.0/24"):  # whose entries differ between versions of Python
            assert is_redactable_ipv4(str(address), only_public=True) == address.is_global
    assert is_redactable_ipv4("192.0.0.9", only_public=True)
    assert not is_redactable_ipv4("192.0.0.8", only_public=True)
    assert not is_redactable_ipv4("01.2.3.4", only_public=False)


def test_public_ipv6_addresses_are_those_of_the_registry() -> None:
    drawn = random.Random(6)
    moved = [ipaddress.IPv6Network(text) for text in ("2001::/23", "2002::/16", "3fff::/20")]
    for _ in range(3000):
        address = ipaddress.IPv6Address((1 << 125) | drawn.getrandbits(125))
        if not any(address in network for network in moved):  # newer than some Pythons, or public as what they embed
            assert is_redactable_ipv6(str(address), only_public=True) == address.is_global
    for text in ("2001:db8::1", "::1", "fe80::1", "fd00::8", "2001::1", "3fff:1::", "4000::1", "::", "2001:2::1"):
        assert not is_redactable_ipv6(text, only_public=True), text
    for text in ("2001:20::1", "2002:808:808::1", "64:ff9b::8.8.8.8", "::ffff:8.8.8.8", "2a00::"):
        assert is_redactable_ipv6(text, only_public=True), text
    assert not is_redactable_ipv6("::ffff:10.0.0.1", only_public=True)
    assert not is_redactable_ipv6("2002:a00:1::", only_public=True)


@pytest.mark.parametrize(
    ("text", "addresses"),
    [
        ("at 2001:4860:4860:0:0:0:0:8888.", ["2001:4860:4860:0:0:0:0:8888"]),
        ("[2001:4860:4860::8888]:443, 2A00:1450::/32", ["2001:4860:4860::8888", "2A00:1450::"]),
        ("IP:2001:4860:4860::8888: it", ["2001:4860:4860::8888"]),
        ("2001:4860:4860::8888.Amen 2600::1.2.3.4!", ["2001:4860:4860::8888", "2600::1.2.3.4"]),
        ("::ffff:8.8.8.8 and ::FFFF:808:808", ["::ffff:8.8.8.8", "::FFFF:808:808"]),
        ("12:30:45, 10:20:30:40:50:60:70:80, 00:1b:44:11:3a:b7", []),
        ("std::dec std::vector<a::b> ::face Cafe::Bar dead::beef", []),
        ("x2001:4860:4860::8888 2001:4860:4860::8888z 2001:4860:4860::8888::1 2001:48600::1", []),
        ("::: :. .: :.: ::", []),
    ],
)
def test_ipv6_addresses_in_text(text: str, addresses: list[str]) -> None:
    assert found(find_ipv6, text) == addresses


def test_ipv6_addresses_that_are_not_public_need_a_digit() -> None:
    text = "fe80::1%eth0, ::1, std::dec, a::b, dead::beef, ::, 2001:db8::7"
    assert found(find_ipv6, text, False) == ["fe80::1", "::1", "2001:db8::7"]


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("4539 1488 0343 6467 exp 12/27", ["4539 1488 0343 6467"]),
        ("4539148803436467, 4539-1488-0343-6467", ["4539148803436467", "4539-1488-0343-6467"]),
        ("3714 496353 98431 and 3056 930902 5904", ["3714 496353 98431", "3056 930902 5904"]),
        ("4539 1488 0343 6467 124", ["4539 1488 0343 6467"]),
        ("４５３９ １４８８ ０３４３ ６４６７", ["４５３９ １４８８ ０３４３ ６４６７"]),  # noqa: RUF001
        (
            "4539\u00a01488\u00a00343\u00a06467; ٤٥٣٩١٤٨٨٠٣٤٣٦٤٦٧",
            ["4539\u00a01488\u00a00343\u00a06467", "٤٥٣٩١٤٨٨٠٣٤٣٦٤٦٧"],
        ),
        ("4539 1488 0343 6468, 4539148803436466", []),
        ("0.4539148803436467 1,4539148803436467 +4539148803436467 a4539148803436467 4539148803436467.5", []),
        ("4539 1488-0343 6467, 9539148803436465, 45391488034364670", []),
        (", ".join(CARD_REPLACEMENTS), []),
    ],
)
def test_cards(text: str, numbers: list[str]) -> None:
    assert found(find_cards, text) == numbers


def test_luhn_is_that_of_a_kept_library() -> None:
    luhn = pytest.importorskip("stdnum.luhn")
    drawn = random.Random(1)
    for _ in range(2000):
        digits = str(drawn.randrange(10**12, 10**19))
        assert passes_luhn(digits) == luhn.is_valid(digits)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("IBAN: GB82 WEST 1234 5698 7654 32 is mine", ["GB82 WEST 1234 5698 7654 32"]),
        ("GR1601101050000010547023795, DE 89-370400440532013001", ["GR1601101050000010547023795"]),
        ("FR76 30006 00001 12345678901 89.", ["FR76 30006 00001 12345678901 89"]),
        ("ＮＯ９３ ８６０１ １１１７ ９４７ x", ["ＮＯ９３ ８６０１ １１１７ ９４７"]),  # noqa: RUF001
        ("GB82 WEST 1234 5698 7654 33, GB82 WEST 1234 5698 7654 3, GB82 WEST 1234 5698 7654 321", []),
        ("IN 2019 the QQ12 AT 1000 people came BE 68 or so NO 93 86 01", []),
        ("xGB82WEST12345698765432", []),
        (", ".join(IBAN_REPLACEMENTS), []),
    ],
)
def test_ibans(text: str, numbers: list[str]) -> None:
    pytest.importorskip("stdnum")
    assert found(find_ibans, text) == numbers


@pytest.mark.parametrize(
    ("text", "regions", "numbers"),
    [
        ("Call +44 20 7031 3000, or (+1 650-253-0000).", (), ["+44 20 7031 3000", "+1 650-253-0000"]),
        ("+49\u00a030\u202f1234\u20091234", (), ["+49\u00a030\u202f1234\u20091234"]),
        ("＋４９ ３０ １２３４１２３４", (), ["＋４９ ３０ １２３４１２３４"]),  # noqa: RUF001
        ("+٤٤ ٢٠ ٧٠٣١ ٣٠٠٠", (), ["+٤٤ ٢٠ ٧٠٣١ ٣٠٠٠"]),
        ("+44 (0)20 7031 3000 ext. 12", (), ["+44 (0)20 7031 3000 ext. 12"]),
        ("5/10[203] 551 616, +44 20 7031 300, +999 123456789, +1 202-555-0143, 2+2 = 4", (), []),
        ("(650) 253-0000 and 030 12341234", (), []),
        ("(650) 253-0000, or [650.253.0000]", ("US",), ["(650) 253-0000", "650.253.0000"]),
        ("030/12341234, +1 650 253 0000", ("DE",), ["030/12341234", "+1 650 253 0000"]),
        ("no. 6502530000 but tel. 6502530000", ("US",), ["6502530000"]),
        ("0.6502530000, 53.369889, ISBN 0-8053-4553-1, 2012-01-02 08:00, 202-555-0143", ("US", "DE"), []),
    ],
)
def test_phones(text: str, regions: tuple[str, ...], numbers: list[str]) -> None:
    pytest.importorskip("phonenumbers")
    where = list(find_phones(fold(text), regions))
    assert [text[start:end] for start, end in where] == numbers
    assert where == sorted(where)


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("SSN 536-90-4399", ["536-90-4399"]),
        ("536904399, but social security no. 536904399", ["536904399"]),
        ("536-90-4399-1, 1-536-90-4399, +81 536-90-4399, a.536-90-4399, 666-90-4399, 000-00-0000", []),
        ("36 574 261 809 and 36574261809", ["36 574 261 809"]),
        ("Steuer-ID: 36574261809", ["36574261809"]),
        ("2 95 10 99 126 111 93; NIR 295109912611193", ["2 95 10 99 126 111 93", "295109912611193"]),
        ("RCCMNL83S18D969H rccmnl83s18d969h RCCMNL83S18D969J", ["RCCMNL83S18D969H", "rccmnl83s18d969h"]),
        ("x RCC MNL 83S18 D969H, xRCCMNL83S18D969H", ["RCC MNL 83S18 D969H"]),
        ("X-2482300-W, 54362315-K, 54362315-Z, DNI 54362315K", ["X-2482300-W", "54362315-K", "54362315K"]),
        ("390.533.447-05", ["390.533.447-05"]),
        ("131052-308T, 131052-308U", ["131052-308T"]),
        ("880320-0016, 19880320-0016, 880320-0017", ["880320-0016", "19880320-0016"]),
        ("54.362.315-K, SSN 536 90 4399", ["54.362.315-K", "536 90 4399"]),
        ("NHS number 943 476 5870; but of this one here nobody knows what it is: 943 476 5870", ["943 476 5870"]),
        ("5 BSN 111222333 doi:10.1016/j.x.2016.08.005", ["111222333"]),
    ],
)
def test_national_ids(text: str, numbers: list[str]) -> None:
    pytest.importorskip("stdnum")
    assert found(find_national_ids, text, tuple(NATIONAL_IDS)) == numbers


def test_national_ids_are_those_that_are_asked_for() -> None:
    pytest.importorskip("stdnum")
    text = "536-90-4399, RCCMNL83S18D969H"
    assert found(find_national_ids, text, ("it.codicefiscale",)) == ["RCCMNL83S18D969H"]
    assert found(find_national_ids, text, ()) == []


@pytest.mark.parametrize("name", NATIONAL_IDS)
def test_validators_are_known_and_do_not_ask_for_the_date(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("stdnum")
    module = import_module(f"stdnum.{name}")

    class NoClock(__import__("datetime").date):  # type: ignore[misc]
        @classmethod
        def today(cls) -> Any:
            raise AssertionError(f"{name} asks for the date")

    if hasattr(module, "datetime"):
        monkeypatch.setattr(module.datetime, "date", NoClock)
    item = NATIONAL_IDS[name]
    assert item.alone or (item.beside and item.words)
    drawn = random.Random(3)
    for form in [*item.alone, *item.beside]:
        for _ in range(200):
            number = "".join(
                drawn.choice("0123456789") if c == "9" else drawn.choice("ABCXYZ") if c == "A" else c for c in form
            )
            assert is_national_id(name, number) in (True, False)


def test_where_kinds_overlap_the_surer_one_has_it() -> None:
    text = (
        "5@4539148803436467.com ::ffff:8.8.8.8 GB82 WEST 1234 5698 7654 32 "
        "4539148803436467 SSN 536904399 +44 20 7031 3000 SSN 536-90-4399"
    )
    spans = measure(text, EVERYTHING)["redactions"]
    labels = ["email", "ipv6", "iban", "card", "national_id", "phone", "national_id"]
    assert [span.label for span in spans] == labels
    order = [finder.label for finder in EVERYTHING.finders()]
    assert order == ["email", "ipv6", "ip", "iban", "card", "national_id", "phone"]
    without_iban = measure("GB82 WEST 1234 5698 7654 32", Pii(**{**ALL, "ibans": False}))
    assert without_iban["num_ibans"] is None
    everywhere = [finder for finder in EVERYTHING.finders() if finder.label in ("card", "phone")]
    for order_of in (everywhere, everywhere[::-1]):
        assert len(find_spans("tel 4539148803436467", order_of, {})["card"]) == 1


def test_character_offsets_become_byte_offsets() -> None:
    text = "año 東京 x"
    rows = np.array([(1, 3, 7), (3, 4, 0), (4, 6, 1), (7, 8, 2)])
    moved = to_byte_rows(text, rows)
    assert [text.encode()[a:b].decode() for a, b, _ in moved] == [text[a:b] for a, b, _ in rows]
    assert moved[:, 2].tolist() == rows[:, 2].tolist()


def test_spans_are_bytes_also_behind_other_scripts() -> None:
    text = "日本 ４５３９ １４８８ ０３４３ ６４６７ é me@example.net"  # noqa: RUF001
    spans = measure(text, Pii(cards=True))["redactions"]
    assert [text.encode()[span.start : span.end].decode() for span in spans] == [
        "４５３９ １４８８ ０３４３ ６４６７",  # noqa: RUF001
        "me@example.net",
    ]


def test_each_kind_has_its_own_switch_count_and_replacement() -> None:
    text = "2a00::1 +44 20 7031 3000 4539148803436467 GB82WEST12345698765432 536-90-4399"
    counts = ("num_ipv6", "num_phones", "num_cards", "num_ibans", "num_national_ids")
    names = ("ipv6", "phone", "card", "iban", "national_id")
    assert all(measure(text, Pii())[count] is None for count in counts)
    for kind, count, name in zip(KINDS, counts, names, strict=True):
        values = measure(text, Pii(**{kind: True, f"{name}_replacement": f"<{name}>"}))
        assert values[count] == 1
        assert [(span.label, span.replacement) for span in values["redactions"]] == [(name, f"<{name}>")]
    assert "000-00-0000" in redact(text, Pii(national_ids=True))
    assert redact("a@b.de", Pii(email_replacement="")) == ""


def test_replacements_are_nobody_s() -> None:
    quiet = Pii(**ALL, emails=False, ips=False, phone_regions=("US",))
    for text in [*IPV6_REPLACEMENTS, *PHONE_REPLACEMENTS, *CARD_REPLACEMENTS, *IBAN_REPLACEMENTS, "000-00-0000"]:
        assert measure(f"tel. SSN {text} NHS", quiet)["redactions"] == []
    for text in CARD_REPLACEMENTS:
        assert passes_luhn(text.replace(" ", ""))


number_parts = st.sampled_from(
    [
        *"0123456789 -./+:x",
        *("\u00a0", ", ", "tel ", "SSN ", "536-90-4399", "+44 20 7031 3000", "4539148803436467", "2a00::1"),
        *("GB82 WEST 1234 5698 7654 32", "(650) 253-0000", "RCCMNL83S18D969H"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(number_parts, max_size=14).map("".join))
def test_spans_are_disjoint_and_sorted_whatever_stands_together(text: str) -> None:
    spans = measure(text, EVERYTHING)["redactions"]
    assert all(before.end <= after.start for before, after in pairwise(spans))
    assert all(span.start < span.end for span in spans)


words = st.sampled_from(["call", "me", "SSN", "at", "20", "5.", "x-1", "#7", "IBAN", "é"])
pieces = st.one_of(words, st.sampled_from(["536-90-4399", "+44 20 7031 3000", "4539148803436467", "2a00::1"]))


@settings(max_examples=200, deadline=None)
@given(st.lists(pieces, max_size=12).map(", ".join))
def test_redacting_twice_is_redacting_once(text: str) -> None:
    once = redact(text, EVERYTHING)
    assert redact(once, EVERYTHING) == once


def test_redacting_real_pages_twice_is_redacting_once(real_data: Path) -> None:
    parity = pytest.importorskip("benchmarks.filter_parity")
    for library in ("fastwarc", "trafilatura"):
        pytest.importorskip(library)
    for text in parity.extract_texts(real_data / "crawl" / "pages-web.warc.gz", 60):
        once = redact(text, EVERYTHING)
        assert redact(once, EVERYTHING) == once


HOSTILE = {
    "digits": "7",
    "pluses": "+",
    "colons": ":",
    "at signs": "@",
    "dotted ones": "1.",
    "spaced digits": "4 ",
    "groups of four": "4539 ",
    "time stamps": "2012-01-02 08:00 ",
    "bracketed": "(1",
    "plus ones": "+1 ",
    "plus brackets": "+((((",
    "hexadecimal": "2a00:",
    "dots and colons": ":.",
    "countries": "GB82 WEST ",
    "forms": "536-90-",
    "letters of ids": "RCC MNL 83S18 ",
    "foreign digits": "٤٥ ",
    "invisible": "4\u200b",
}


@pytest.mark.parametrize("part", HOSTILE.values(), ids=HOSTILE)
@pytest.mark.timeout(100)
def test_a_long_text_of_one_thing_does_not_hang(part: str) -> None:
    measure(part * (100_000 // len(part)), EVERYTHING)


@pytest.mark.timeout(100)
@pytest.mark.parametrize("finder", EVERYTHING.finders(), ids=lambda finder: finder.label)
def test_a_megabyte_of_one_thing_hangs_no_finder(finder: Any) -> None:
    for part in ("7", "+", ":", "@", "1."):
        list(finder.find(fold(part * (1_000_000 // len(part)))))


def test_a_number_behind_a_long_run_is_found() -> None:
    pytest.importorskip("phonenumbers")
    text = "12 " * 3000 + "\nfax +44 20 7031 3000 " + "1 " * 3000
    assert "+44 20 7031 3000" in found(find_phones, text, ("US",))


def test_an_absent_library_is_named_with_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    def absent(distribution: str) -> str:
        raise PackageNotFoundError(distribution)

    monkeypatch.setattr(libraries, "version", absent)
    assert list(Pii(cards=True, ipv6=True).resources()) == ["unicode"]
    with pytest.raises(MissingLibraryError, match=r"phones = true needs phonenumbers.*headrace\[pii\]"):
        Pii(phones=True).resources()
    for kind in ("ibans", "national_ids"):
        with pytest.raises(MissingLibraryError, match=rf"{kind} = true.* needs python-stdnum") as raised:
            measure("text", Pii(**{kind: True}))
        assert explain(raised.value) == str(raised.value)


def test_libraries_are_resources_where_they_are_used() -> None:
    pytest.importorskip("phonenumbers")
    pytest.importorskip("stdnum")
    assert list(Pii().resources()) == ["unicode"]
    assert list(Pii(phones=True).resources()) == ["unicode", "phonenumbers"]
    assert list(Pii(ibans=True).resources()) == ["unicode", "python-stdnum"]


def test_unknown_ids_and_regions_name_the_near_miss() -> None:
    with pytest.raises(RecipeError, match=r"national_id_kinds: there is no 'us.sn'; did you mean 'us.ssn'"):
        make_signal("pii", {"national_id_kinds": ["us.sn"]})
    pytest.importorskip("phonenumbers")
    with pytest.raises(RecipeError, match="phone_regions: there is no 'UK'"):
        make_signal("pii", {"phones": True, "phone_regions": ["UK"]})
    assert make_signal("pii", {"phones": True, "phone_regions": ["GB"], "phone_replacement": "x"}).name == "pii"


def test_folding_keeps_every_character_in_its_place() -> None:
    assert fold("＋４９\u00a0३\u2009٤\u2011𝟗\u200b・é") == "+49 3 4-9 ・é"  # noqa: RUF001
    everything = "".join(map(chr, [*range(0xD800), *range(0xE000, 0x20000)]))
    assert len(fold(everything)) == len(everything)
    assert fold("plain") == "plain"


def test_a_batch_without_findings_is_stored() -> None:
    views = Views(pa.array(["nothing here", ""]), pa.array(["", ""]), None)
    columns = dict(zip([column.name for column in Pii().columns], views.measure(Pii()), strict=True))
    assert columns["redactions"].to_pylist() == [[], []]
    assert columns["num_emails"].to_pylist() == [0, 0]
