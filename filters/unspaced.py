"""Scripts without spaces, in which words between spaces mean nothing: measured all the same, or null.

A text is in such scripts when more than half of its letters are theirs (`filters.analysis.letters` lists them). Marks,
digits and punctuation are no letters. What null means is for a rule's `on_null`.
"""

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Literal

from headrace.filters.contract import TextBatch

Unspaced = Literal["measure", "null"]


def unspaced_resources(unspaced: Unspaced) -> Mapping[str, str]:
    """Return what decides which texts are in scripts without spaces, where that is asked."""
    from headrace.filters.analysis.letters import letters_digest

    return {"letters": letters_digest()} if unspaced == "null" else {}


def null_where_unspaced(
    unspaced: Unspaced, batch: TextBatch, values: Mapping[str, Sequence[Any]], columns: Collection[str]
) -> Mapping[str, Sequence[Any]]:
    """Return the values with None in some columns of texts in scripts without spaces, if that is asked."""
    if unspaced == "measure":
        return values
    from headrace.filters.analysis.letters import load_letters
    from headrace.filters.analysis.scripts import mostly_unspaced

    concerned = mostly_unspaced(*batch.utf8, *load_letters()).tolist()
    if not any(concerned):
        return values
    return {
        name: [None if null else value for value, null in zip(found, concerned, strict=True)]
        if name in columns
        else found
        for name, found in values.items()
    }
