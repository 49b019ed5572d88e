"""RedPajama-v2's counts as kernels: one over texts as they are, one over normalized texts.

They find what `filters.signals.redpajama` describes. A normalized text is words with one space between them. The
first `MOST_WORDS` words are looked at. Words and runs of words are compared by 64-bit hashes; the hashes of runs of n
words are made from those of n - 1.
"""

import math

import numpy as np

from headrace.filters.analysis.hashing import append_byte, as_key, join_hashes
from headrace.filters.analysis.letters import Letter
from headrace.filters.analysis.lexicon import find_entry
from headrace.filters.analysis.limits import MOST_WORDS
from headrace.filters.analysis.lines import begins_character, count_byte, ends_with_ellipsis
from headrace.filters.analysis.matching import stands_exactly
from headrace.filters.analysis.seen import emptied, slot_of, table_size
from headrace.filters.analysis.utf8 import decode, flags_of
from headrace.filters.kernels import kernel

(CHARS, CURLY, WORDS, CAPS, NO_LETTER, STOP_WORDS, SENTENCES, LINES, TERMINAL, ELLIPSIS, BULLET, UPPER) = range(12)
NUM_RAW = 12
TOP, REPEATED = (2, 3, 4), (5, 6, 7, 8, 9, 10)
NORMAL_WORDS, WORD_CHARS, NUMERIC, JAVASCRIPT, DISTINCT, FIRST_RUN = range(6)
NUM_NORMAL = FIRST_RUN + len(TOP) + len(REPEATED)

_SPACE, _WORD, _NUMERIC = int(Letter.SPACE), int(Letter.WORD), int(Letter.NUMERIC)
_UPPER, _LOWER = int(Letter.UPPER), int(Letter.LOWER)
_LINE_FEED, _PLAIN_SPACE, _OPEN, _CLOSE = ord("\n"), ord(" "), ord("{"), ord("}")
_DOT, _EXCLAMATION, _QUESTION, _QUOTE = ord("."), ord("!"), ord("?"), ord("\u201d")
_BULLETS = np.array([0x2022, 0x2023, 0x25B6, 0x25C0, 0x25E6, 0x25A0, 0x25A1, 0x25AA, 0x25AB, 0x2013], np.uint32)
_JAVASCRIPT = np.frombuffer(b"javascript", np.uint8)
_NO_WORD, _LETTERS, _MARKS = 0, 1, 2  # what a character belongs to

# Packed: there are as many as words.
_NORMAL_WORD = np.dtype([("hash", np.uint64), ("num_chars", np.uint32)])
_SEEN = np.dtype([("count", np.uint32), ("first", np.uint32)])


@kernel()
def _count_line(data, start, first, last_end, first_code, last_code, row):  # type: ignore[no-untyped-def]
    """Count a line whose first and last characters that are no white space are given; `first` is -1 without any."""
    row[LINES] += 1
    if first < 0:
        return
    row[TERMINAL] += last_code == _DOT or last_code == _EXCLAMATION or last_code == _QUESTION or last_code == _QUOTE
    row[ELLIPSIS] += ends_with_ellipsis(data, start, last_end)
    bullet = False
    for code in _BULLETS:
        bullet |= first_code == code
    row[BULLET] += bullet


@kernel()
def _count_word(value, some, latin, stop_words, row):  # type: ignore[no-untyped-def]
    """Count a word with that hash and so many Latin letters, some of whose characters have some flags."""
    row[WORDS] += 1
    row[CAPS] += (some & _UPPER) != 0 and not some & _LOWER
    row[NO_LETTER] += latin == 0
    row[STOP_WORDS] += find_entry(stop_words, value) >= 0


@kernel()
def count_raw(data, offsets, stop_words, index, pages):  # type: ignore[no-untyped-def]
    """Return counts of shape (num_texts, NUM_RAW) of texts as they are.

    A word is a run of letters, digits and underscores, or of marks; `stop_words` is a table of hashes.
    """
    counts = np.zeros((len(offsets) - 1, NUM_RAW), np.int64)
    ascii_flags = pages[np.int64(index[0]) << 8 :][:128]
    for text in range(len(offsets) - 1):
        row, position, stop = counts[text], offsets[text], offsets[text + 1]
        kind, some, latin, value = _NO_WORD, np.int64(0), np.int64(0), np.uint64(0)
        within_sentence = False
        line, first, last_end, first_code, last_code = position, np.int64(-1), position, np.uint32(0), np.uint32(0)
        while position < stop:
            code, length, flags = np.uint32(data[position]), 1, np.int64(0)
            if code < 128:
                flags = np.int64(ascii_flags[code])
            else:
                code, length = decode(data, position)
                flags = np.int64(flags_of(code, index, pages))
            belongs = _NO_WORD if flags & _SPACE else _LETTERS if flags & _WORD else _MARKS
            if belongs != kind:
                if kind != _NO_WORD:
                    _count_word(value, some, latin, stop_words, row)
                kind, some, latin, value = belongs, np.int64(0), np.int64(0), np.uint64(0)
            some |= flags
            latin += 65 <= code <= 90 or 97 <= code <= 122
            for byte in range(position, position + length):
                value = append_byte(value, data[byte])
            row[CHARS] += 1
            row[UPPER] += (flags & _UPPER) != 0
            row[CURLY] += code == _OPEN or code == _CLOSE
            if within_sentence:
                within_sentence = code != _DOT and code != _EXCLAMATION and code != _QUESTION
            elif flags & _WORD:
                row[SENTENCES] += 1
                within_sentence = True
            position += length
            if belongs != _NO_WORD:
                if first < 0:
                    first, first_code = position, code
                last_end, last_code = position, code
            if code == _LINE_FEED:
                _count_line(data, line, first, last_end, first_code, last_code, row)
                line, first = position, np.int64(-1)
        if kind != _NO_WORD:
            _count_word(value, some, latin, stop_words, row)
        if line < stop:
            _count_line(data, line, first, last_end, first_code, last_code, row)
    return counts


@kernel()
def _cut(data, start, end, words, row, index, pages):  # type: ignore[no-untyped-def]
    """Write the words of a normalized text; return how many there are."""
    count, position = 0, start
    while position < end and count < MOST_WORDS:
        begin, value, num_chars = position, np.uint64(0), np.uint32(0)
        while position < end and data[position] != _PLAIN_SPACE:
            value = append_byte(value, data[position])
            if begins_character(data[position]):
                num_chars += np.uint32(1)
                code, _ = decode(data, position)
                row[NUMERIC] += (flags_of(code, index, pages) & _NUMERIC) != 0
            position += 1
        words[count].hash, words[count].num_chars = value, num_chars
        row[WORD_CHARS] += np.int64(num_chars)
        if position - begin == len(_JAVASCRIPT):
            row[JAVASCRIPT] += stands_exactly(data, begin, position, _JAVASCRIPT)
        count += 1
        position += 1
    return count


@kernel()
def _count_distinct(keys, num_words, table, seen, of_count):  # type: ignore[no-untyped-def]
    """Return how many different words there are and the entropy of their shares, in nats.

    The sum goes over counts in ascending order, so it depends on nothing else; `of_count` are how many words have each.
    """
    of_count[: num_words + 1] = 0
    distinct, largest = 0, np.int64(0)
    for number in range(num_words):
        key = as_key(keys[number])
        slot = slot_of(table, key)
        if table[slot] == 0:
            table[slot], seen[slot].count = key, np.uint32(0)
            distinct += 1
        before = np.int64(seen[slot].count)
        seen[slot].count += np.uint32(1)
        if before:
            of_count[before] -= np.uint32(1)
        of_count[before + 1] += np.uint32(1)
        if before >= largest:
            largest = before + 1
    total = 0.0
    for count in range(2, largest + 1):
        if of_count[count]:
            total += np.int64(of_count[count]) * count * math.log(count)
    return distinct, max(0.0, math.log(num_words) - total / num_words)


@kernel()
def _top_chars(words, keys, num_runs, n, table, seen):  # type: ignore[no-untyped-def]
    """Return the characters in all occurrences of the commonest run of n words, or 0 if none occurs twice."""
    best_count, best_first = np.int64(1), np.int64(0)
    for start in range(num_runs):
        key = as_key(keys[start])
        slot = slot_of(table, key)
        if table[slot] == 0:
            table[slot], seen[slot].count, seen[slot].first = key, np.uint32(0), start
        seen[slot].count += np.uint32(1)
        count, first = np.int64(seen[slot].count), np.int64(seen[slot].first)
        if count > best_count or (count == best_count > 1 and first < best_first):
            best_count, best_first = count, first
    if best_count == 1:
        return np.int64(0)
    num_chars = np.int64(0)
    for word in range(best_first, best_first + n):
        num_chars += np.int64(words[word].num_chars)
    return num_chars * best_count


@kernel()
def _repeated_chars(words, keys, num_runs, n, table, seen, covered):  # type: ignore[no-untyped-def]
    """Return the characters of words in runs of n words that occur more than once, each word counted once."""
    found = False
    for start in range(num_runs):
        key = as_key(keys[start])
        slot = slot_of(table, key)
        if table[slot] == 0:
            table[slot], seen[slot].first = key, start
            continue
        found = True
        first = np.int64(seen[slot].first)
        for offset in range(n):
            covered[first + offset] = n
            covered[start + offset] = n
    num_chars = np.int64(0)
    if found:
        for word in range(num_runs + n - 1):
            num_chars += np.int64(words[word].num_chars) if covered[word] == n else 0
    return num_chars


@kernel()
def count_normalized(data, offsets, index, pages):  # type: ignore[no-untyped-def]
    """Return counts of shape (num_texts, NUM_NORMAL) of normalized texts, and the entropy of the words of each.

    Behind the first counts stand the characters in the commonest run of n words for n of TOP, then those in repeated
    runs for n of REPEATED. The entropy of no words is 0.
    """
    num_texts = len(offsets) - 1
    counts, entropies = np.zeros((num_texts, NUM_NORMAL), np.int64), np.zeros(num_texts)
    room, seen = np.empty(16, np.uint64), np.empty(16, _SEEN)
    words, keys, covered = np.empty(0, _NORMAL_WORD), np.empty(0, np.uint64), np.empty(0, np.uint8)
    of_count = np.empty(1, np.uint32)
    for text in range(num_texts):
        row, start, end = counts[text], offsets[text], offsets[text + 1]
        most = min(count_byte(data, start, end, _PLAIN_SPACE) + 1, MOST_WORDS)
        if most > len(words):
            words, keys, covered = np.empty(most, _NORMAL_WORD), np.empty(most, np.uint64), np.empty(most, np.uint8)
            of_count = np.empty(most + 1, np.uint32)
        num_words = _cut(data, start, end, words, row, index, pages)
        row[NORMAL_WORDS] = num_words
        if num_words == 0:
            continue
        slots = table_size(num_words)
        if slots > len(room):
            room, seen = np.empty(slots, np.uint64), np.empty(slots, _SEEN)
        for number in range(num_words):
            keys[number], covered[number] = words[number].hash, 0
        row[DISTINCT], entropies[text] = _count_distinct(keys, num_words, emptied(room, slots), seen, of_count)
        for n in range(2, 11):
            num_runs = num_words - n + 1
            if num_runs < 2:
                break
            for number in range(num_runs):
                keys[number] = join_hashes(keys[number], words[number + n - 1].hash)
            table = emptied(room, slots)
            if n < 5:
                row[FIRST_RUN + n - 2] = _top_chars(words, keys, num_runs, n, table, seen)
            else:
                row[FIRST_RUN + n - 2] = _repeated_chars(words, keys, num_runs, n, table, seen, covered)
            if row[FIRST_RUN + n - 2] == 0:
                break  # no longer run occurs twice, either
    return counts, entropies
