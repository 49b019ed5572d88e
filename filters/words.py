"""English words and sentences exactly as spaCy's blank English pipeline cuts them, without spaCy.

spaCy cuts at white space, then peels prefixes and suffixes off each chunk until an exception ("don't", "U.S.") or
nothing peelable is left, and cuts what remains at infixes unless it is a URL. A last pass over the whole text joins
token sequences that spell an exception with affixes in it (":-)", "10a.m."). The sentencizer ends a sentence after
a terminal token and the punctuation behind it. Patterns and exceptions are data made from spaCy by
`benchmarks.generate_english_tokenizer` (`data/english_tokenizer.json`). A chunk is cut the same way wherever it
stands, so its pieces are remembered; patterns look only at a chunk's ends, so that a very long one stays linear.
"""

import json
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any, Literal

from headrace.filters.analysis.codepoints import codepoints_digest
from headrace.filters.libraries import library_version

Words = Literal["english", "spacy"]  # who cuts: the kernel, by the tables below, or spaCy itself

_TABLES = Path(__file__).with_name("data") / "english_tokenizer.json"
_PIECES = re.compile(r"\S+|\s+")
_MEMO_CHUNKS = 1 << 17  # about 30 MB; a crawl's common chunks are far fewer
_MEMO_CHUNK_LENGTH = 64
_TAIL = 32  # longer than any suffix but a run of dots, with the two characters that a suffix looks behind
_LOOK_BEHIND = 3


class EnglishTokenizer:
    """Cuts texts by tables of patterns and exceptions; safe to share, for what it remembers never changes a result."""

    def __init__(self, tables: Mapping[str, Any]) -> None:
        self._prefix = re.compile(tables["prefix"])
        self._suffix = re.compile(tables["suffix"])
        self._infix = re.compile(tables["infix"])
        self._url = re.compile(tables["url"])
        self.exceptions: dict[str, tuple[str, ...]] = {k: tuple(v) for k, v in tables["exceptions"].items()}
        self.units: tuple[str, ...] = tuple(tables["units"])
        self._longest_exception = max(map(len, self.exceptions))
        self._sequences: dict[str, list[list[str]]] = {}
        for sequence in tables["sequences"]:
            self._sequences.setdefault(sequence[0], []).append(sequence)
        self._terminals = frozenset(tables["terminals"])
        self._any_terminal = re.compile(f"[{re.escape(''.join(tables['terminals']))}]")
        self._memo: dict[str, tuple[str, ...]] = {}

    def words(self, text: str) -> list[str]:
        """Return the tokens of a text without those of white space."""
        return [token for token in self._tokens(text)[0] if not token.isspace()]

    def sentences(self, text: str) -> list[str]:
        """Return the sentences, whose concatenation is the text; the empty text is one empty sentence."""
        tokens, spaced = self._tokens(text)
        breaks = set(self._sentence_breaks(tokens))
        pieces, begin, end, after = [], 0, 0, 0
        for index, token in enumerate(tokens):
            if index in breaks:
                pieces.append(text[begin:end])
                begin = end
            end = after + len(token)
            after = end + (index in spaced)
        return [*pieces, text[begin:]]

    def num_sentences(self, text: str) -> int:
        """Return `len(self.sentences(text))`, fast where no terminal mark stands in the text."""
        if not self._any_terminal.search(text):
            return 1
        return 1 + sum(1 for _ in self._sentence_breaks(self._tokens(text)[0]))

    def _sentence_breaks(self, tokens: Sequence[str]) -> Iterator[int]:
        """Yield the indices of the tokens that open a sentence, but for the first one of the text."""
        ended = False
        for index, token in enumerate(tokens):
            if token in self._terminals:
                ended = True
            elif ended and not _is_punctuation(token):
                yield index
                ended = False

    def _tokens(self, text: str) -> tuple[list[str], set[int]]:
        """Return all tokens, and which of them a plain space follows that belongs to no token."""
        tokens: list[str] = []
        spaced: set[int] = set()
        for piece in _PIECES.findall(text):
            if not piece[0].isspace():
                tokens += self.cut_chunk(piece)
                continue
            if piece[0] == " " and tokens:
                spaced.add(len(tokens) - 1)
                piece = piece[1:]
            if piece:
                tokens.append(piece)
        return self._join_exceptions(tokens, spaced)

    @property
    def sequence_beginnings(self) -> set[tuple[str, str]]:
        """The first two tokens of each sequence that spells an exception of other tokens than its own."""
        sequences = (sequence for starting in self._sequences.values() for sequence in starting)
        return {(s[0], s[1]) for s in sequences if self.exceptions["".join(s)] != tuple(s)}

    def may_join(self, pieces: Sequence[str]) -> bool:
        """Return whether some of the tokens of a chunk together spell an exception."""
        return len(pieces) > 1 and bool(self._find_sequences(list(pieces)))

    def words_within(self, text: str, start: int, end: int) -> list[str]:
        """Return the words of text[start:end], a chunk, as the text around it lets them be."""
        tokens, spaced = self._tokens(text)
        words, position = [], 0
        for index, token in enumerate(tokens):
            if start <= position < end:
                words.append(token)
            position += len(token) + (index in spaced)
        return words

    def cut_chunk(self, chunk: str) -> tuple[str, ...]:
        """Return the tokens of a chunk, a run of characters without white space, by itself."""
        pieces = self._memo.get(chunk)
        if pieces is None:
            pieces = self.exceptions.get(chunk) or tuple(self._peel(chunk))
            if len(chunk) <= _MEMO_CHUNK_LENGTH:
                if len(self._memo) >= _MEMO_CHUNKS:
                    self._memo.clear()
                self._memo[chunk] = pieces
        return pieces

    def _peel(self, chunk: str) -> list[str]:
        """Take prefixes and suffixes off until an exception, or nothing peelable, is left; cut that."""
        start, end = 0, len(chunk)
        prefixes: list[str] = []
        suffixes: list[str] = []
        while start < end and not self._is_exception(chunk, start, end):
            match = self._prefix.match(chunk, start, end)
            after = match.end() if match else start
            if after > start and self._is_exception(chunk, after, end):
                prefixes.append(chunk[start:after])
                start = after
                break
            before = end - self._suffix_length(chunk, after, end)
            if before < end and self._is_exception(chunk, start, before):
                suffixes.append(chunk[before:end])
                end = before
                break
            if start == after and before == end:
                break
            prefixes += [chunk[start:after]] if after > start else []
            suffixes += [chunk[before:end]] if before < end else []
            start, end = after, before
        return [*prefixes, *self._cut_core(chunk[start:end]), *reversed(suffixes)]

    def _is_exception(self, chunk: str, start: int, end: int) -> bool:
        return end - start <= self._longest_exception and chunk[start:end] in self.exceptions

    def _suffix_length(self, chunk: str, start: int, end: int) -> int:
        """Return the length of the longest suffix of chunk[start:end]; only a run of dots can be long."""
        width = _TAIL
        while True:
            tail = chunk[max(start, end - width) : end]
            match = self._suffix.search(tail)
            if match is None:
                return 0
            if match.start() >= _LOOK_BEHIND or len(tail) < width:
                return len(tail) - match.start()
            width *= 2

    def _cut_core(self, core: str) -> Sequence[str]:
        if not core:
            return ()
        if core in self.exceptions:
            return self.exceptions[core]
        if self._url.match(core):
            return (core,)
        pieces, start = [], 0
        for match in self._infix.finditer(core):
            if match.start() == 0:
                continue
            pieces += [core[start : match.start()]] if match.start() > start else []
            pieces += [match[0]] if match[0] else []
            start = match.end()
        return [*pieces, core[start:]] if start < len(core) else pieces

    def _join_exceptions(self, tokens: list[str], spaced: set[int]) -> tuple[list[str], set[int]]:
        """Replace the token sequences that spell an exception by the exception's own tokens."""
        joined: list[str] = []
        joined_spaced: set[int] = set()
        position = 0
        for start, end in self._find_sequences(tokens):
            if any(index in spaced for index in range(start, end - 1)):
                continue  # it spells the exception only with the spaces left out; it has still barred what overlaps it
            _copy(tokens, spaced, position, start, joined, joined_spaced)
            joined += self.exceptions["".join(tokens[start:end])]
            if end - 1 in spaced:
                joined_spaced.add(len(joined) - 1)
            position = end
        if position == 0:
            return tokens, spaced
        _copy(tokens, spaced, position, len(tokens), joined, joined_spaced)
        return joined, joined_spaced

    def _find_sequences(self, tokens: list[str]) -> list[tuple[int, int]]:
        """Return the ranges that spell exceptions, in order: the longest first choice, then the earliest.

        As in spaCy, a range that is not chosen still bars those after it.
        """
        found = [
            (index, index + len(sequence))
            for index, token in enumerate(tokens)
            for sequence in self._sequences.get(token, ())
            if tokens[index : index + len(sequence)] == sequence
        ]
        chosen, barred = [], set[int]()
        for start, end in sorted(found, key=lambda span: (span[0] - span[1], span[0])):
            if start not in barred and end - 1 not in barred:
                chosen.append((start, end))
            barred.update(range(start, end))
        return sorted(chosen)


def _copy(
    tokens: list[str], spaced: set[int], start: int, end: int, joined: list[str], joined_spaced: set[int]
) -> None:
    shift = len(joined) - start
    joined += tokens[start:end]
    joined_spaced.update(index + shift for index in range(start, end) if index in spaced)


def _is_punctuation(token: str) -> bool:
    return all(unicodedata.category(character)[0] == "P" for character in token)


@cache
def english_tokenizer() -> EnglishTokenizer:
    """Return the process's tokenizer; its tables load on the first call."""
    return EnglishTokenizer(json.loads(_TABLES.read_text(encoding="utf-8")))


def split_words(text: str) -> list[str]:
    """Return the words as datatrove 0.10.1's English word tokenizer (spaCy 3.8) gives them."""
    return english_tokenizer().words(text)


def split_sentences(text: str) -> list[str]:
    """Return the sentences as datatrove 0.10.1's `split_into_sentences` does; together they are the text."""
    return english_tokenizer().sentences(text)


def count_sentences(text: str) -> int:
    """Return `len(split_sentences(text))`."""
    return english_tokenizer().num_sentences(text)


@cache
def word_resources(words: Words = "english") -> Mapping[str, str]:
    """Return what decides how words and lines are cut: the digests of the tables, which hold Unicode's classes, too.

    Raises:
        MissingLibraryError: spaCy is asked for and not installed.
    """
    tables = {"english_tokenizer": sha256(_TABLES.read_bytes()).hexdigest(), "codepoints": codepoints_digest()}
    if words == "english":
        return tables
    return {**tables, "spacy": library_version("spacy", extra="interop", purpose="the option words = 'spacy'")}
