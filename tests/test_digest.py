"""The signal `digest`: what does not matter, and that pieces of a large text are as the whole."""

from typing import Any

import pytest

from headrace.filters.contract import TextBatch
from headrace.filters.signals.digest import Digest


def texts(*given: str, **options: Any) -> list[Any]:
    return list(Digest(**options).measure(TextBatch(given, [""] * len(given)))["text"])


@pytest.mark.parametrize(
    ("normalize", "same", "other"),
    [
        ((), "a b\nc", "a b c"),
        (("whitespace",), "a  b\n c ", "A b c"),
        (("whitespace", "lowercase"), " A\tB c", "a b, c"),
        (("punctuation", "whitespace"), "a b; c!", "A b c"),
        (("numbers", "whitespace"), "a 1.5 b", "a b"),
        (("diacritics", "whitespace"), "\u00e1 b c", "a b d"),
    ],
)
def test_only_what_is_named_does_not_matter(normalize: tuple[str, ...], same: str, other: str) -> None:
    plain = {"numbers": "a 0 b"}.get(normalize[0] if normalize else "", "a b c" if normalize else "a b\nc")
    first, second, third = texts(plain, same, other, normalize=normalize)
    assert first == second != third


def test_nothing_has_no_digest() -> None:
    assert texts("", " \n ") == [None, None]
    assert texts("...", "a", normalize=("punctuation", "whitespace"))[0] is None


def test_urls_are_compared_in_canonical_form() -> None:
    urls = ["http://www.example.org/a/", "https://example.org/a", "", "https://example.org/b"]
    found = Digest().measure(TextBatch([""] * 4, urls))["url"]
    assert found[0] == found[1] != found[3]
    assert found[2] is None


def test_pieces_of_a_large_text_are_as_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    given = [" \u039f\u0394\u039f\u03a3 1.5  2,5\n\u00c9t\u00e9... x" * 30, "ab " * 40, "x" * 100]
    for normalize in ((), ("whitespace",), ("lowercase", "numbers", "punctuation", "whitespace", "diacritics")):
        whole = texts(*given, normalize=normalize)
        monkeypatch.setattr("headrace.filters.pieces.PIECE_CHARS", 7)
        assert texts(*given, normalize=normalize) == whole
        monkeypatch.undo()


def test_an_unknown_step_is_refused() -> None:
    with pytest.raises(ValueError, match="there is no step 'case'; there are lowercase"):
        Digest(normalize=("case",))  # type: ignore[arg-type]
