"""Texts to measure on: pages of real books, and copies of them with words changed."""

import glob
import gzip
import re
from pathlib import Path

import numpy as np

WORDS = 611


def book_words(pattern: str) -> list[str]:
    """Return the words of books (.txt.gz), in order; raises SystemExit where there are none."""
    paths = sorted(glob.glob(pattern))
    if not paths:
        raise SystemExit(f"{pattern}: no such books; name some with --books")
    return [word for path in paths for word in gzip.decompress(Path(path).read_bytes()).decode().split(" ") if word]


def page_texts(pattern: str, number: int, copies: float = 0.0) -> list[str]:
    """Return pages of 611 words; a share of them are copies of earlier ones with up to 40 words changed."""
    words, random = book_words(pattern), np.random.default_rng(1)
    texts: list[str] = []
    while len(texts) < number:
        start = int(random.integers(0, len(words) - WORDS))
        page = words[start : start + WORDS]
        if texts and random.random() < copies:
            page = texts[int(random.integers(0, len(texts)))].split(" ")
            for _ in range(int(random.integers(0, 41))):
                page[int(random.integers(0, len(page)))] = words[int(random.integers(0, len(words)))]
        texts.append(" ".join(page))
    return texts


def book_sentences(pattern: str) -> list[str]:
    """Return the sentences of books that have 10 to 24 words."""
    text = " ".join(book_words(pattern)).replace("\n", " ")
    sentences = (sentence.split() for sentence in re.split(r"(?<=[.!?])\s+", text))
    return [" ".join(words) for words in sentences if 10 <= len(words) <= 24]
