"""Cases, numbers and scripts of code points, as one shipped table beside `codepoints`.

A table of its own, because what only a few signals ask should not change the keys of what all others measured. It is
made by `benchmarks.generate_letter_table`.

Scripts without spaces are those whose words no white space divides (Unicode Standard Annex 14, the classes of line
breaking SA and ID, and Tibetan, which divides syllables): blocks, closed, in order.
"""

from enum import IntFlag, auto

from headrace.filters.analysis.code_tables import CodeTable, load_table, table_digest

TABLE = "letters"

UNSPACED_BLOCKS = (
    (0x0E00, 0x0E7F, "Thai"),
    (0x0E80, 0x0EFF, "Lao"),
    (0x0F00, 0x0FFF, "Tibetan"),
    (0x1000, 0x109F, "Myanmar"),
    (0x1780, 0x17FF, "Khmer"),
    (0x1950, 0x19DF, "Tai Le and New Tai Lue"),
    (0x1A20, 0x1AAF, "Tai Tham"),
    (0x1B00, 0x1B7F, "Balinese"),
    (0x3005, 0x3007, "Han: iteration mark, closing mark, zero"),
    (0x3021, 0x3029, "Han: numerals of Suzhou"),
    (0x3040, 0x30FF, "Hiragana and Katakana"),
    (0x31F0, 0x31FF, "Katakana: phonetic extensions"),
    (0x3400, 0x4DBF, "Han: extension A"),
    (0x4E00, 0x9FFF, "Han"),
    (0xA000, 0xA4CF, "Yi"),
    (0xA980, 0xA9DF, "Javanese"),
    (0xA9E0, 0xA9FF, "Myanmar: extended B"),
    (0xAA60, 0xAA7F, "Myanmar: extended A"),
    (0xAA80, 0xAADF, "Tai Viet"),
    (0xF900, 0xFAFF, "Han: compatibility"),
    (0xFF66, 0xFF9F, "Katakana: half width"),
    (0x1AFF0, 0x1B16F, "Kana: extended and supplementary"),
    (0x20000, 0x3FFFF, "Han: the supplementary planes"),
)
WITHOUT_DICTIONARY = (  # ICU cannot tell the words of these
    *("Tibetan", "Tai Le and New Tai Lue", "Tai Tham", "Balinese", "Yi", "Javanese"),
    *("Myanmar: extended A", "Myanmar: extended B", "Tai Viet"),
)


class Letter(IntFlag):
    """What is true of a code point."""

    SPACE = auto()  # str.isspace
    WORD = auto()  # \w of a regular expression: str.isalnum and the underscore
    UPPER = auto()  # str.isupper
    LOWER = auto()  # str.islower, or title case: no word that holds it is in upper case
    NUMERIC = auto()  # str.isnumeric
    ALPHABETIC = auto()  # str.isalpha
    DIGIT = auto()  # str.isdigit
    UNSPACED = auto()  # a letter of a script without spaces


def load_letters() -> CodeTable:
    """Return the process's table."""
    return load_table(TABLE)


def letters_digest() -> str:
    """Return the sha256 of the table's file."""
    return table_digest(TABLE)
