"""How much of a text has been said before: duplicate elements and word n-grams, in characters.

Counted as datatrove 0.10.1 does (`gopher_repetition_filter`): an element is a duplicate from its second occurrence on.
N-grams are slices of one joined text, which compare as the reference's joined words do and are cheaper to make.
"""

from collections import Counter
from collections.abc import Sequence
from itertools import accumulate
from operator import itemgetter


def count_duplicates(elements: Sequence[str]) -> tuple[int, int]:
    """Return how many elements occurred before, and their characters."""
    seen: set[str] = set()
    num_duplicates = duplicate_chars = 0
    for element in elements:
        if element in seen:
            num_duplicates += 1
            duplicate_chars += len(element)
        else:
            seen.add(element)
    return num_duplicates, duplicate_chars


def top_gram_chars(words: Sequence[str], n: int) -> int | None:
    """Return the characters (spaces between words included) in the commonest n-gram, of equals the first."""
    if len(words) < n:
        return None
    text = " ".join(words)
    ends = list(accumulate(len(word) + 1 for word in words))  # where the next word begins
    grams = [text[start : end - 1] for start, end in zip([0, *ends], ends[n - 1 :], strict=False)]
    gram, count = max(Counter(grams).items(), key=itemgetter(1))
    return len(gram) * count


def repeated_gram_chars(words: Sequence[str], n: int) -> int:
    """Return the characters in n-grams that occurred before; a repeated one is stepped over whole."""
    text = "".join(words)
    offsets = [0, *accumulate(map(len, words))]
    seen: set[str] = set()
    chars = index = 0
    while index + n < len(offsets):
        gram = text[offsets[index] : offsets[index + n]]
        if gram in seen:
            chars += len(gram)
            index += n
        else:
            seen.add(gram)
            index += 1
    return chars
