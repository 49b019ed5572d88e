"""Classes of code points that words and lines rest on: Unicode's, datatrove's lists, and those of spaCy's patterns.

The table is made by `benchmarks.generate_codepoint_table`.
"""

from enum import IntFlag, auto

from headrace.filters.analysis.code_tables import CodeTable, load_table, table_digest

TABLE = "codepoints"


class Flag(IntFlag):
    """What is true of a code point; the second half are the classes in spaCy's patterns for English."""

    SPACE = auto()  # str.isspace
    ALPHABETIC = auto()  # str.isalpha
    PUNCTUATION = auto()  # general category P
    SYMBOL = auto()  # datatrove's list of punctuation
    LINE_TERMINAL = auto()  # datatrove's terminal punctuation
    SENTENCE_TERMINAL = auto()  # spaCy's
    LINE_BREAK = auto()  # where str.splitlines cuts
    DIGIT = auto()  # 0 to 9
    DECIMAL = auto()  # str.isdecimal
    PREFIX = auto()  # cut off at the beginning of a word, alone
    SUFFIX = auto()  # cut off at its end
    INFIX = auto()  # cut out within
    CURRENCY = auto()  # a suffix after a digit
    BEFORE_LAST_DOT = auto()  # a dot behind it is a suffix
    UPPER = auto()  # a dot behind two of them is a suffix
    BEFORE_DOT = auto()  # a dot between this and
    AFTER_DOT = auto()  # this is an infix
    LETTER = auto()  # a comma or a hyphen between two of them is an infix
    TOP_LEVEL = auto()  # may stand in a top-level domain
    INERT = auto()  # no pattern ever cuts beside it


def load_codepoints() -> CodeTable:
    """Return the process's table."""
    return load_table(TABLE)


def codepoints_digest() -> str:
    """Return the sha256 of the table's file."""
    return table_digest(TABLE)
