"""Tokenizers as data: a `tokenizer.json` of the `tokenizers` library, and what the rest must know about it.

Documents are separated by one special token, `<|endoftext|>`; the stream adds it, token tables do not hold it.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any
from unicodedata import category

import numpy as np
from numpy.typing import NDArray

from headrace.filters.analysis.letters import UNSPACED_BLOCKS
from headrace.pipeline.errors import InputError

END_OF_TEXT = "<|endoftext|>"


@dataclass(frozen=True)
class Vocabulary:
    """A loaded tokenizer."""

    tokenizer: Any
    size: int
    end_of_text: int

    @classmethod
    def load(cls, path: Path) -> "Vocabulary":
        """Load a `tokenizer.json`.

        Raises:
            InputError: it is no tokenizer, or has no `<|endoftext|>`.
        """
        from tokenizers import Tokenizer

        try:
            tokenizer = Tokenizer.from_str(path.read_text(encoding="utf-8"))
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}); name a tokenizer.json") from None
        except Exception as error:  # the library raises bare Exception for every fault of the file
            raise InputError(f"{path}: not a tokenizer.json of the tokenizers library: {error}") from None
        end_of_text = tokenizer.token_to_id(END_OF_TEXT)
        if end_of_text is None:
            raise InputError(f"{path}: the tokenizer has no token {END_OF_TEXT!r}, which separates documents; add it")
        return cls(tokenizer, tokenizer.get_vocab_size(), end_of_text)

    @property
    def token_bytes(self) -> int:
        """Bytes of a stored token: 2 while ids fit in uint16, else 4."""
        return 2 if self.size <= 1 << 16 else 4

    def encode_batch(self, texts: list[str]) -> list[NDArray[np.unsignedinteger[Any]]]:
        """Return the ids of each text, without special tokens, in the width they are stored in."""
        kind = token_dtype(self.token_bytes)
        encodings = self.tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        return [np.array(encoding.ids, dtype=kind) for encoding in encodings]

    def decode(self, ids: list[int]) -> str:
        """Return the text of some ids, special tokens left out."""
        text: str = self.tokenizer.decode(ids, skip_special_tokens=True)
        return text

    def byte_lengths(self) -> NDArray[np.int64]:
        """Return for each id of a byte-level vocabulary how many UTF-8 bytes it stands for; specials stand for none.

        In such a vocabulary one character of a token's name stands for one byte.
        """
        lengths = np.zeros(self.size, dtype=np.int64)
        specials = {id_ for id_, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        for token, id_ in self.tokenizer.get_vocab().items():
            lengths[id_] = 0 if id_ in specials else len(token)
        return lengths

    def word_joins(self) -> NDArray[np.bool_]:
        """Return for each id of a byte-level vocabulary whether it goes on a word, and whether one can go on behind it.

        So a token of a text belongs to the word of the one before it where the latter's second is True and its own
        first. Words are of letters, digits and marks; in scripts without spaces each token is its own. Bytes that go on
        a character belong to it. Specials join nothing. Shape (vocabulary, 2).
        """
        joins = np.zeros((self.size, 2), dtype=np.bool_)
        specials = {id_ for id_, token in self.tokenizer.get_added_tokens_decoder().items() if token.special}
        for token, id_ in self.tokenizer.get_vocab().items():
            if token and id_ not in specials:
                joins[id_] = _goes_on(token), _can_go_on(token)
        return joins


@cache
def _byte_alphabet() -> dict[str, int]:
    """Return which byte each character of a byte-level token's name stands for.

    Printable ones of Latin 1 stand for themselves, the others follow U+00FF in order (GPT-2).
    """
    itself = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in itself]
    return {chr(byte): byte for byte in itself} | {chr(256 + number): byte for number, byte in enumerate(others)}


def _goes_on(token: str) -> bool:
    """Return whether a token, by its name, can go on a word.

    A byte that goes on a character does; one that begins a character does where characters have two bytes (Latin to
    Arabic), and of the first of more bytes nothing is known, but that most such scripts have no spaces.
    """
    first = _byte_alphabet().get(token[0], 0x20)
    if first < 0x80:
        return chr(first).isalnum()
    whole = _bytes_of(token).decode("utf-8", "surrogateescape")[0]
    return first < 0xE0 if _is_cut(whole) else _is_of_words(whole)


def _can_go_on(token: str) -> bool:
    """Return whether a word can go on behind a token, by its name; a character that is cut goes on."""
    last = _byte_alphabet().get(token[-1], 0x20)
    if last < 0x80:
        return chr(last).isalnum()
    whole = _bytes_of(token).decode("utf-8", "surrogateescape")[-1]
    return _is_cut(whole) or _is_of_words(whole)


def _bytes_of(token: str) -> bytes:
    """Return the bytes that a token's name stands for; what is in no byte-level name counts as a space."""
    alphabet = _byte_alphabet()
    return bytes(alphabet.get(character, 0x20) for character in token)


def _is_cut(character: str) -> bool:
    """Return whether this is a byte that the codec could not decode."""
    return "\udc80" <= character <= "\udcff"


def _is_of_words(character: str) -> bool:
    if not (character.isalnum() or category(character).startswith("M")):
        return False
    return not any(first <= ord(character) <= last for first, last, _ in UNSPACED_BLOCKS)


def token_dtype(token_bytes: int) -> np.dtype[Any]:
    """Return the little-endian dtype of tokens that take so many bytes."""
    return np.dtype("<u2" if token_bytes == 2 else "<u4")
