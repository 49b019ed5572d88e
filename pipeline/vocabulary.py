"""Tokenizers as data: a `tokenizer.json` of the `tokenizers` library, and what the rest must know about it.

Documents are separated by one special token, `<|endoftext|>`; the stream adds it, token tables do not hold it.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

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


def token_dtype(token_bytes: int) -> np.dtype[Any]:
    """Return the little-endian dtype of tokens that take so many bytes."""
    return np.dtype("<u2" if token_bytes == 2 else "<u4")
