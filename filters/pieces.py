"""Large texts in pieces, for what looks no further than a line or a word: memory then follows the piece."""

import re
from collections.abc import Iterator

PIECE_CHARS = 1 << 20


def iter_pieces(text: str, behind: re.Pattern[str]) -> Iterator[str]:
    """Yield pieces that together are the text, each ending behind a pattern's first match after PIECE_CHARS characters.

    A text of at most twice that size is one piece; where the pattern does not match again, the rest is.
    """
    start = 0
    while len(text) - start > 2 * PIECE_CHARS:
        found = behind.search(text, start + PIECE_CHARS)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end
    if start < len(text) or not text:
        yield text[start:]
