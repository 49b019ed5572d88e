"""fastText's prediction over UTF-8 bytes, in the float32 operations and the order of `fasttext` 0.9.

A text is one line. Each of its words stands for rows of the input matrix: its own, if the model knows the word, and
those of its n-grams of characters between `<` and `>`; the hidden vector is the mean of all rows. Hashes are FNV-1a
over bytes as signed numbers.

N-grams are looked up once for each different word of a block of words; the rows are still added one by one in the
order of the text, so that the sums are those of a text alone. Of words that are longer than `LONG_WORD`, whose rows
would fill the memory, the rows are looked up where they are added.
"""

from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from headrace.filters.kernels import kernel

Array = npt.NDArray[Any]

LONG_WORD = 1024  # bytes
BLOCK = 1 << 20  # words
_FNV_OFFSET = np.uint32(2166136261)
_FNV_PRIME = np.uint32(16777619)
_WORD_GRAM_PRIME = np.uint64(116049371)
_SIGN = np.uint32(0xFFFFFF00)
_CONTINUATION, _TOP_BITS = np.uint8(0x80), np.uint8(0xC0)
_BEGIN, _END = np.uint8(0x3C), np.uint8(0x3E)
_END_OF_LINE = np.frombuffer(b"</s>", np.uint8)
_LABEL = np.frombuffer(b"__label__", np.uint8)


class Tables(NamedTuple):
    """What the kernels know of a model.

    `words` are the model's words end to end, `starts` where each begins, `slots` what `build_slots` makes of them.
    `present` has a bit for each bucket of n-grams that has a row, `pruned` those rows (empty: the bucket itself),
    counted from behind the rows of the words.
    """

    words: Array
    starts: Array
    slots: Array
    min_n: int
    max_n: int
    word_ngrams: int
    buckets: int
    present: Array
    pruned: Array
    inputs: Array


@kernel()
def _step(value: Any, byte: Any) -> Any:
    wide = np.uint32(byte) | _SIGN if byte & _CONTINUATION else np.uint32(byte)
    return np.uint32(np.uint32(value ^ wide) * _FNV_PRIME)  # numba's own products of uint32 are uint64


@kernel()
def _hash(data: Array) -> Any:
    value = _FNV_OFFSET
    for byte in data:
        value = _step(value, byte)
    return value


@kernel()
def _is_space(byte: Any) -> bool:
    return bool(byte <= 0x20 and (byte == 0x20 or (0x09 <= byte <= 0x0D) or byte == 0))


@kernel()
def _equal(left: Array, left_start: int, right: Array, right_start: int, size: int) -> bool:
    for index in range(size):  # noqa: SIM110 - compiled
        if left[left_start + index] != right[right_start + index]:
            return False
    return True


@kernel()
def _grown(array: Array, needed: int) -> Array:
    if needed <= len(array):
        return array
    larger = np.empty(max(needed, 2 * len(array)), array.dtype)
    larger[: len(array)] = array
    return larger


@kernel()
def build_slots(words: Array, starts: Array, size: int) -> Array:
    """Return an open-addressing table of `size` (a power of two) slots: the number of a word, or -1."""
    slots = np.full(size, -1, np.int32)
    for number in range(len(starts) - 1):
        slot = np.int64(_hash(words[starts[number] : starts[number + 1]])) & (size - 1)
        while slots[slot] >= 0:
            slot = (slot + 1) & (size - 1)
        slots[slot] = number
    return slots


@kernel()
def _known_word(data: Array, start: Any, stop: Any, hashed: Any, tables: Tables) -> int:
    """Return the row of a word, or -1."""
    mask = len(tables.slots) - 1
    slot = np.int64(hashed) & mask
    while tables.slots[slot] >= 0:
        number = tables.slots[slot]
        first, size = tables.starts[number], stop - start
        if tables.starts[number + 1] - first == size and _equal(data, start, tables.words, first, size):
            return int(number)
        slot = (slot + 1) & mask
    return -1


@kernel()
def split_words(data: Array, bounds: Array, text: Any, position: Any) -> tuple[Array, Array, Array, Array, Any, Any]:
    """Return where words start and stop, their hashes, where those of each text begin, and where to go on.

    Text `i` is `data[bounds[i]:bounds[i + 1]]`. Words are looked for from a position in a text on, until all texts are
    done or `BLOCK` words are found; those of text `i` are the ones from `ends[i]` to `ends[i + 1]`.
    """
    most = min(BLOCK, (len(data) - position) // 2 + len(bounds))
    starts, stops = np.empty(most, np.int64), np.empty(most, np.int64)
    hashes, ends = np.empty(most, np.uint32), np.zeros(len(bounds), np.int64)
    count = 0
    while text < len(bounds) - 1:
        end = bounds[text + 1]
        while position < end and count < most:
            if _is_space(data[position]):
                position += 1
                continue
            start, value = position, _FNV_OFFSET
            while position < end and not _is_space(data[position]):
                value = _step(value, data[position])
                position += 1
            size = position - start
            if size == len(_END_OF_LINE) and _equal(data, start, _END_OF_LINE, 0, size):
                position = end
            elif size < len(_LABEL) or not _equal(data, start, _LABEL, 0, len(_LABEL)):
                starts[count], stops[count], hashes[count] = start, position, value
                count += 1
        ends[text + 1] = count
        if position < end:
            break
        text += 1
    return starts[:count], stops[:count], hashes[:count], ends, text, position


@kernel()
def number_words(data: Array, starts: Array, stops: Array, hashes: Array) -> tuple[Array, Array]:
    """Return for each word the number of its kind, equal for equal words, and for each kind its first word."""
    size = 1024
    while size < 2 * len(starts):
        size *= 2
    slots = np.full(size, -1, np.int32)
    numbers, firsts = np.empty(len(starts), np.int32), np.empty(len(starts), np.int64)
    count = 0
    for word in range(len(starts)):
        start, length = starts[word], stops[word] - starts[word]
        slot = np.int64(hashes[word]) & (size - 1)
        while slots[slot] >= 0:
            other = firsts[slots[slot]]
            if (
                hashes[other] == hashes[word]
                and stops[other] - starts[other] == length
                and _equal(data, start, data, starts[other], length)
            ):
                break
            slot = (slot + 1) & (size - 1)
        if slots[slot] < 0:
            slots[slot] = count
            firsts[count] = word
            count += 1
        numbers[word] = slots[slot]
    return numbers, firsts[:count]


@kernel()
def _bracketed(data: Array, start: Any, stop: Any) -> Array:
    word = np.empty(stop - start + 2, np.uint8)
    word[0], word[-1] = _BEGIN, _END
    word[1:-1] = data[start:stop]
    return word


@kernel()
def _find_grams(word: Array, begin: int, end: Any, tables: Tables, rows: Array, count: Any) -> Any:
    """Write the rows of the n-grams of a bracketed word that begin in a range behind the first `count` of `rows`.

    Returns how many there are now. `rows` must have room for `max_n` a byte and one more.
    """
    size, num_buckets, num_words = len(word), np.uint32(tables.buckets), len(tables.starts) - 1
    first = count
    for start in range(begin, min(end, size)):
        if (word[start] & _TOP_BITS) == _CONTINUATION:
            continue
        value, stop = _FNV_OFFSET, start
        for n in range(1, tables.max_n + 1):
            if stop >= size:
                break
            value = _step(value, word[stop])
            stop += 1
            while stop < size and (word[stop] & _TOP_BITS) == _CONTINUATION:
                value = _step(value, word[stop])
                stop += 1
            if n >= tables.min_n and not (n == 1 and (start == 0 or stop == size)):
                bucket = np.int64(np.uint32(value % num_buckets))
                rows[count] = bucket  # written in any case: a branch that nothing foretells costs more
                count += (tables.present[bucket >> 3] >> (bucket & 7)) & 1
    for index in range(first, count):
        rows[index] = num_words + (tables.pruned[rows[index]] if len(tables.pruned) else rows[index])
    return count


@kernel()
def find_rows(
    data: Array, starts: Array, stops: Array, hashes: Array, firsts: Array, tables: Tables
) -> tuple[Array, Array]:
    """Return the rows of each kind of word, end to end, and where those of each begin; long words have none here."""
    rows, bounds = np.empty(4096, np.int32), np.zeros(len(firsts) + 1, np.int64)
    count = 0
    for kind in range(len(firsts)):
        start, stop = starts[firsts[kind]], stops[firsts[kind]]
        if stop - start <= LONG_WORD:
            rows = _grown(rows, count + 2 + tables.max_n * (stop - start + 2))
            known = _known_word(data, start, stop, hashes[firsts[kind]], tables)
            if known >= 0:
                rows[count] = known
                count += 1
            if tables.max_n > 0 and tables.buckets > 0:
                count = _find_grams(_bracketed(data, start, stop), 0, stop - start + 2, tables, rows, count)
        bounds[kind + 1] = count
    return rows[:count], bounds


@kernel()
def _add(total: Array, inputs: Array, row: Any) -> None:
    for column in range(total.shape[0]):
        total[column] += inputs[row, column]


@kernel()
def _add_long_word(total: Array, data: Array, start: Any, stop: Any, hashed: Any, tables: Tables) -> int:
    """Add the rows of a long word, a stretch at a time; return how many."""
    known = _known_word(data, start, stop, hashed, tables)
    count = 0
    if known >= 0:
        _add(total, tables.inputs, known)
        count += 1
    if tables.max_n > 0 and tables.buckets > 0:
        word, rows = _bracketed(data, start, stop), np.empty(tables.max_n * LONG_WORD + 1, np.int32)
        for begin in range(0, len(word), LONG_WORD):
            found = _find_grams(word, begin, begin + LONG_WORD, tables, rows, 0)
            for index in range(found):
                _add(total, tables.inputs, rows[index])
            count += found
    return count


@kernel()
def _add_word_grams(total: Array, hashes: Array, tables: Tables) -> int:
    """Add the rows of runs of two to `word_ngrams` words, the end of the line among them; return how many."""
    count, num_words = 0, len(tables.starts) - 1
    line = np.append(hashes, _hash(_END_OF_LINE))
    for first in range(len(line)):
        value = np.uint64(np.int64(np.int32(line[first])))
        for last in range(first + 1, min(first + tables.word_ngrams, len(line))):
            value = value * _WORD_GRAM_PRIME + np.uint64(np.int64(np.int32(line[last])))
            row = np.int64(value % np.uint64(tables.buckets))
            if len(tables.pruned):
                row = np.int64(tables.pruned[row])
            if row >= 0:
                _add(total, tables.inputs, num_words + row)
                count += 1
    return count


@kernel()
def _add_end(total: Array, hashes: Array, end_of_line: int, tables: Tables) -> int:
    """Add the rows that a text has beside those of its words, which have some hashes; return how many."""
    count = 0
    if end_of_line >= 0:
        _add(total, tables.inputs, end_of_line)
        count += 1
    if tables.word_ngrams > 1 and tables.buckets > 0:
        count += _add_word_grams(total, hashes, tables)
    return count


@kernel()
def hidden_vectors(data: Array, bounds: Array, tables: Tables) -> tuple[Array, Array]:
    """Return the mean row of each text, float32 of shape (texts, dim), and of how many rows it is the mean.

    Text `i` is `data[bounds[i]:bounds[i + 1]]`.
    """
    end_of_line = _known_word(_END_OF_LINE, 0, len(_END_OF_LINE), _hash(_END_OF_LINE), tables)
    hidden = np.zeros((len(bounds) - 1, tables.inputs.shape[1]), np.float32)
    counts = np.zeros(len(bounds) - 1, np.int64)
    following, position, line = np.int64(0), bounds[0], np.empty(0, np.uint32)
    while following < len(counts):
        first = following
        starts, stops, hashes, ends, following, position = split_words(data, bounds, first, position)
        numbers, firsts = number_words(data, starts, stops, hashes)
        rows, row_bounds = find_rows(data, starts, stops, hashes, firsts, tables)
        for text in range(first, min(following + 1, len(counts))):
            total, count = hidden[text], np.int64(0)
            for word in range(ends[text], ends[text + 1]):
                if stops[word] - starts[word] > LONG_WORD:
                    count += _add_long_word(total, data, starts[word], stops[word], hashes[word], tables)
                    continue
                begin, end = row_bounds[numbers[word]], row_bounds[numbers[word] + 1]
                for index in range(begin, end):
                    _add(total, tables.inputs, rows[index])
                count += end - begin
            counts[text] += count
            if tables.word_ngrams > 1:
                line = np.append(line, hashes[ends[text] : ends[text + 1]])
            if text < following:
                counts[text] += _add_end(total, line, end_of_line, tables)
                line = line[:0]
                if counts[text]:
                    total *= np.float32(1.0 / counts[text])
    return hidden, counts
