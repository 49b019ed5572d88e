"""Stop words of many languages: a text with hardly any is no prose in that language (Rae et al. 2021, table A1).

The lists are FineWeb2's (Penedo et al. 2025, arXiv:2506.20920): each language's commonest words in its Wikipedia, as
huggingface/fineweb-2 has them in `configs/`. Different words count, in the case that they are written in, as
datatrove 0.10.1's `GopherQualityFilter` counts them. The words of a text are cut by English rules, which know no word
with an apostrophe at its end (`l'`), with `words = "spacy"` by spaCy, and with `unspaced = "segment"` by ICU in scripts
without spaces; FineWeb2 has a tokenizer for each language.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from hashlib import sha256
from importlib.resources import files
from typing import Any, ClassVar, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.contract import Column, TextBatch, register
from headrace.filters.unspaced import Unspaced, null_where_unspaced, unspaced_resources
from headrace.filters.utf8 import Int64s
from headrace.filters.words import Words, word_resources


@register
@dataclass(frozen=True)
class StopWords:
    """How many different stop words of each language occur in a text.

    `languages` are labels of GlotLID, as `deu_Latn`; without any, all that there are lists for.
    """

    name: ClassVar[str] = "stop_words"
    version: ClassVar[int] = 1

    languages: tuple[str, ...] = ()
    unspaced: Unspaced = "null"
    words: Words = "english"

    def __post_init__(self) -> None:
        """Raise ValueError where there is no list for a language, or one is named twice."""
        known = stop_word_lists()
        twice = sorted({language for language in self.languages if self.languages.count(language) > 1})
        if twice:
            raise ValueError(f"languages: {twice[0]!r} is named twice; each has one column")
        for language in self.languages:
            if language not in known:
                raise ValueError(f"languages: there are no stop words of {language!r}; there are {', '.join(known)}")

    @property
    def columns(self) -> tuple[Column, ...]:
        """One column a language, called as its label in lower case."""
        return tuple(Column(name.lower(), "int", f"different stop words of {name}") for name in self._languages)

    def resources(self) -> Mapping[str, str]:
        """Return what decides the words, and the digest of the lists in use."""
        lists = json.dumps({name: stop_word_lists()[name] for name in self._languages}, sort_keys=True)
        digest = sha256(lists.encode()).hexdigest()
        return {**word_resources(self.words), **unspaced_resources(self.unspaced), "stop_words": digest}

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return counts; null for texts in scripts without spaces, as `unspaced` says."""
        from headrace.filters.analysis.prose import count_listed_words

        lists = _number_lists(self._languages)
        table = batch.words_for(self.words, self.unspaced)
        counts = count_listed_words(*table, lists.words, lists.first_list, lists.lists, len(self._languages))
        names = [column.name for column in self.columns]
        values = dict(zip(names, counts.T.tolist(), strict=True))
        return null_where_unspaced(self.unspaced, batch, values, names)

    @property
    def _languages(self) -> tuple[str, ...]:
        return self.languages or tuple(stop_word_lists())


@cache
def stop_word_lists() -> Mapping[str, Sequence[str]]:
    """Return the stop words of each language, by its label."""
    text = (files("headrace.filters") / "data" / "stop_words.json").read_text(encoding="utf-8")
    lists: Mapping[str, Sequence[str]] = json.loads(text)
    return lists


class _Lists(NamedTuple):
    """Words of several lists: a table of their hashes that numbers them, and the lists that each is in.

    Word i is in `lists[first_list[i]:first_list[i + 1]]`.
    """

    words: npt.NDArray[np.void]
    first_list: Int64s
    lists: Int64s


@cache
def _number_lists(languages: tuple[str, ...]) -> _Lists:
    from headrace.filters.analysis.lexicon import number_words

    found: dict[str, list[int]] = {}
    for number, language in enumerate(languages):
        for word in dict.fromkeys(stop_word_lists()[language]):
            found.setdefault(word, []).append(number)
    first = np.cumsum([0, *map(len, found.values())], dtype=np.int64)
    return _Lists(number_words(found), first, np.array([n for lists in found.values() for n in lists], np.int64))
