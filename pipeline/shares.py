"""Shares: another share for a step `best`, as a command line writes it (`--set COLUMN.share=0.2`).

Rules have their own changes (`filters.overrides`); a share is no key of a rule, since what it stands for depends on
all documents.
"""

import re
from collections.abc import Iterable, Mapping, Sequence

from headrace.filters.overrides import meant_column
from headrace.filters.rules import ColumnId, RuleError

_NUMBER = re.compile(r"\d*\.?\d+(e-?\d+)?")
_SHARE = re.compile(r"(?P<column>[^<>=\s]+)\.share\s*=(?P<value>(?!=).*)", re.DOTALL)


def split_shares(sets: Iterable[str]) -> tuple[dict[str, float], list[str]]:
    """Return the new shares by column, and the other changes; raises RuleError for what is no share of a column."""
    shares: dict[str, float] = {}
    others: list[str] = []
    for text in sets:
        match = _SHARE.fullmatch(text.strip())
        if match is None:
            others.append(text)
        else:
            column = str(ColumnId.parse(match["column"]))
            if column in shares:
                raise RuleError(f"{text!r}: a share of {column!r} is given twice; give one")
            shares[column] = _parse_share(match["value"].strip(), text)
    return shares, others


def _parse_share(value: str, text: str) -> float:
    share = float(value) if _NUMBER.fullmatch(value) else 0.0
    if not 0 < share <= 1:
        raise RuleError(
            f"{text!r}: {value!r} is no share; write a number above 0 and at most 1, as in COLUMN.share=0.2"
        )
    return share


def shares_of(columns: Sequence[str], shares: Mapping[str, float]) -> dict[int, float]:
    """Return the new shares by the number of the step that each means, given the columns of all steps `best`.

    Raises:
        RuleError: no step keeps the best by that column, or more than one does.
    """
    meant: dict[int, float] = {}
    for name, share in shares.items():
        column = meant_column(columns, name, "step `best` reads")
        numbers = [number for number, one in enumerate(columns) if one == column]
        if len(numbers) > 1:
            raise RuleError(f"{len(numbers)} steps keep the best by {column!r}; change the share in the recipe")
        if numbers[0] in meant:
            raise RuleError(f"the share of the step that keeps the best by {column!r} is given twice; give one")
        meant[numbers[0]] = share
    return meant
