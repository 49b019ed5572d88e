"""Large texts in pieces, for what looks no further than a line or a word: memory then follows the piece."""

import re
from collections.abc import Iterator

PIECE_CHARS = 1 << 20


def iter_pieces(text: str, behind: re.Pattern[str], size: int | None = None) -> Iterator[str]:
    """Yield pieces that together are the text, each ending behind the first match of a pattern after `size` characters.

    A text of at most twice that size is one piece; where the pattern does not match again, the rest is.
    """
    size = PIECE_CHARS if size is None else size
    start = 0
    while len(text) - start > 2 * size:
        found = behind.search(text, start + size)
        end = found.end() if found else len(text)
        yield text[start:end]
        start = end
    if start < len(text) or not text:
        yield text[start:]
