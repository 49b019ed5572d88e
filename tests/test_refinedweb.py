"""RefinedWeb's corrections of lines, against the same rules said plainly."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.models import ModelFileError, find_model
from headrace.filters.signals.refinedweb import COUNTERS, RefinedWeb
from headrace.filters.spans import apply_spans
from tests.small_store import RECIPE, build_small

COUNTER = re.compile(rf"\W*\d[\d.,]*[kmb]?\s+(?:{'|'.join(COUNTERS)})\W*")
MENUS = (r"\s?items in cart", r"\s?(?:read more\.\.\.|read more…)\Z", r"\Asign-in\s?")
BLOG = """THE DAILY MILL
12345
3 likes
(1,204 Views)
1.2k followers
Home
Sign-in to your account
The wheel turns slowly, and the miller sleeps. Read more...
2 items in cart
items in cart
The miller has been at work since seven, and there are no more than three items in cart number two.

Read more..."""


def one(text: str, **options: Any) -> dict[str, Any]:
    signal = RefinedWeb(**options)
    return {name: values[0] for name, values in signal.measure(TextBatch([text], [""])).items()}


def corrected(text: str) -> tuple[str, int]:
    """Return the corrected text and the number of words that went, by regular expressions over lines."""
    kept, removed = [], 0
    for line in text.split("\n"):
        words = len(line.split())
        if (
            sum(map(str.isupper, line)) > len(line) / 2
            or line.isdigit()
            or COUNTER.fullmatch(line.lower())
            or words == 1
        ):
            removed += words
            continue
        left = line
        if 0 < words <= 10:
            for menu in MENUS:
                left = re.sub(menu, "", left, flags=re.IGNORECASE)
        removed += words - len(left.split())
        if left == line or left.strip():
            kept.append(left)
    return "\n".join(kept), removed


def test_lines_go_by_their_first_fault() -> None:
    values = one(BLOG)
    assert apply_spans(BLOG, values["removed"]).split("\n") == [
        "to your account",
        "The wheel turns slowly, and the miller sleeps.",
        "2",
        "The miller has been at work since seven, and there are no more than three items in cart number two.",
        "",
    ]
    counts = {name.removeprefix("num_lines_"): value for name, value in values.items() if "num_lines_" in name}
    assert counts == {"uppercase": 1, "numeric": 1, "counter": 3, "one_word": 1, "menu": 5}
    assert values["num_lines"] == 13
    assert values["num_words"] == len(BLOG.split())
    assert values["removed_word_frac"] == values["num_removed_words"] / values["num_words"]
    assert corrected(BLOG)[1] == values["num_removed_words"]
    labels = {BLOG.encode()[span.start : span.end]: span.label for span in values["removed"]}
    assert labels[b"(1,204 Views)\n"] == "counter"
    assert labels[b" Read more..."] == "menu"


def test_a_text_without_words_has_no_share() -> None:
    assert one("")["removed_word_frac"] is None
    assert one(" \n ")["removed_word_frac"] is None
    assert one("one two three")["removed_word_frac"] == 0.0
    assert one("\n\n")["num_lines"] == 2


def test_lists_can_be_given_for_another_language() -> None:
    wheel = "Das Mühlrad dreht sich langsam weiter."
    text = f"3 Kommentare\nAnmelden für mehr Inhalte\n{wheel} Weiterlesen →\nZum Warenkorb hier"
    german = {"counters": ("Kommentare",), "starts": ("anmelden",), "ends": ("weiterlesen →",), "anywhere": ()}
    values = one(text, **german)
    assert apply_spans(text, values["removed"]) == f"für mehr Inhalte\n{wheel}\nZum Warenkorb hier"
    assert one(text)["num_removed_words"] == 0


pieces = st.sampled_from(
    [
        *("Sign-in", "sign-in", "Read more...", "read more…", "items in cart", "ITEMS in cart", "likes", "Views"),
        *("3", "1,2.3", "5k", "12", "ABC", "É", "a word", "mill", "(", ")", "ß", "日本", "\u3000", "\xa0", "ǅ", "!"),
    ]
)


@settings(max_examples=400, deadline=None)
@given(st.lists(st.tuples(pieces, st.sampled_from(["", " ", "\n", "  ", "\n\n", "\r"])), max_size=25))
def test_corrections_are_those_of_the_plain_rules(parts: list[tuple[str, str]]) -> None:
    text = "".join(piece + gap for piece, gap in parts)
    values = one(text)
    left, removed = corrected(text)
    assert apply_spans(text, values["removed"]) == left
    assert values["num_removed_words"] == removed
    assert values["num_words"] == len(text.split())


def test_a_text_is_corrected_as_if_it_were_alone() -> None:
    texts = ["", BLOG, "日本語。\n" * 3, "X", BLOG.lower()]
    together: Mapping[str, Any] = RefinedWeb().measure(TextBatch(texts, [""] * len(texts)))
    for number, text in enumerate(texts):
        assert {name: values[number] for name, values in together.items()} == one(text)


@pytest.mark.parametrize("part", ["read more...", "items in cart", "3 likes\n", "A", "\n", "sign-in "])
def test_hostile_texts_end(part: str) -> None:
    text = part * (2_000_000 // len(part))
    values = one(text)
    assert values["num_words"] == len(text.split())


@pytest.mark.parametrize("rule_set", ["refinedweb", "dclm"])
def test_recipes_with_its_rules_build(tmp_path: Path, rule_set: str) -> None:
    try:
        find_model("lid.176.ftz")
    except ModelFileError:
        pytest.skip("lid.176.ftz is not here")
    start, end = RECIPE.index("[[steps]]"), RECIPE.index('[[steps]]\nkind = "tokenize"')
    steps = f"""
[[steps]]
kind = "measure"
signals = ["language", "gopher_repetition", "gopher_quality", "refinedweb"]

[[steps]]
kind = "measure"
view = "refinedweb"
signals = ["fineweb"]

[[steps]]
kind = "rules"
name = "quality"
sets = ["{rule_set}"]
set = {{ "refinedweb.removed_word_frac.max" = 0.01 }}

[[steps]]
kind = "cut"
edits = ["refinedweb.removed"]

"""
    built = build_small(tmp_path, RECIPE[:start] + steps + RECIPE[end:])
    rules = next(manifest for manifest in built.manifests.values() if manifest.stage == "rules")
    assert rules.ledger.dropped
