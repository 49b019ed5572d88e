"""A text as the one line that a learned classifier reads, the same when it is trained and when it is asked.

`lines` joins the lines of a text by spaces, as DCLM does (Li et al. 2024, arXiv:2406.11794). `words` also sets every
sign that is no letter, digit or underscore apart and lowers the case, as fastText's tutorial does: better for short
texts, where "end." and "End" had better be the word "end". What fastText would take for an order (`__label__`, `</s>`)
is broken up.
"""

import re
from typing import Literal

Normalize = Literal["lines", "words"]

_SIGN = re.compile(r"([^\w\s])")
_ORDERS = {"__label__": "__ label__", "</s>": "< /s>"}


def one_line(text: str, normalize: Normalize) -> str:
    """Return a text as one line without white space at its ends."""
    if normalize == "words":
        text = _SIGN.sub(r" \1 ", text.lower())
    for order, broken in _ORDERS.items():
        text = text.replace(order, broken)
    return " ".join(text.strip().splitlines()).replace("\0", " ")
