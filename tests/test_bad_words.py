"""Lists of bad words: found as datatrove's C4 filter finds them, pinned by their digest."""

import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from headrace.filters.contract import TextBatch
from headrace.filters.models import ModelFileError
from headrace.filters.signals.bad_words import BadWords

ENTRIES = ("darn", "old mill", "b*d", "r-t", "a", "☢")


def make(folder: Path, entries: tuple[str, ...] = ENTRIES, **options: Any) -> BadWords:
    path = folder / "list"
    path.write_text("\n".join(entries) + "\n\n", encoding="utf-8")
    return BadWords(str(path), sha256(path.read_bytes()).hexdigest(), **options)


def count(signal: BadWords, text: str) -> tuple[int, int]:
    values = signal.measure(TextBatch([text], [""]))
    return values["num_matches"][0], values["num_entries"][0]


def test_entries_stand_between_what_is_no_word(tmp_path: Path) -> None:
    signal = make(tmp_path)
    assert count(signal, "DARN, the old mill: darn!") == (3, 2)
    assert count(signal, "darned, undarn, darn_1, old  mill, an old\nmill") == (0, 0)
    assert count(signal, "b*d (r-t) ☢") == (3, 3)
    assert count(signal, "") == (0, 0)


def test_scripts_without_spaces_are_matched_anywhere(tmp_path: Path) -> None:
    assert count(make(tmp_path, ("水車", "川")), "古い水車は川にある") == (0, 0)
    assert count(make(tmp_path, ("水車", "川"), match="anywhere"), "古い水車は川にある") == (2, 2)
    assert count(make(tmp_path, ("水車", "川"), match="anywhere", allow=("川",)), "水車は川に") == (1, 1)


@settings(max_examples=300, deadline=None)
@given(st.lists(st.sampled_from([*ENTRIES, "mill", "B*D", " ", ", ", "x", "_", "\n", "É"]), max_size=20).map("".join))
@pytest.mark.parametrize("match", ["words", "anywhere"])
def test_what_is_found_is_what_the_reference_finds(
    tmp_path_factory: pytest.TempPathFactory, match: str, text: str
) -> None:
    blocks = pytest.importorskip("datatrove.pipeline.filters")
    from datatrove.data import Document

    signal = make(tmp_path_factory.getbasetemp(), match=match)
    language = {"words": "en", "anywhere": "ja"}[match]
    block = blocks.C4BadWordsFilter(default_language=language)
    words = "|".join(map(re.escape, ENTRIES))
    forms = {"en": rf"(?:\W|^)({words})(?:\W|$)", "ja": words}  # as the block makes them of a downloaded list
    block._badwords_regex[language] = re.compile(forms[language])
    passes = block.filter(Document(text=text, id="0")) is True
    assert (count(signal, text)[1] == 0) == passes


def test_a_list_without_entries_or_of_another_encoding_is_named(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="no entry in this list"):
        count(make(tmp_path, ("x",), allow=("X",)), "x")
    (tmp_path / "latin").write_bytes(b"\xe9\n")
    signal = BadWords(str(tmp_path / "latin"), sha256(b"\xe9\n").hexdigest())
    with pytest.raises(ModelFileError, match=r"no list in UTF-8 \(byte 0\)"):
        count(signal, "x")
