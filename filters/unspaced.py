"""Scripts without spaces, in which words between spaces mean nothing: measured all the same, null, or cut by ICU.

A text is in such scripts when more than half of its letters are theirs (`filters.analysis.letters` lists them). Marks,
digits and punctuation are no letters. With `segment` its words are those of ICU (the extra `segment`), and what rests
on words is null only where more than half of the letters are of scripts that ICU has no dictionary for. What null means
is for a rule's `on_null`.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, Literal

from headrace.filters.contract import TextBatch
from headrace.filters.libraries import library_version

Unspaced = Literal["measure", "null", "segment"]


@cache
def unspaced_resources(unspaced: Unspaced) -> Mapping[str, str]:
    """Return what decides which texts are in scripts without spaces, and their words, where that is asked.

    Raises:
        MissingLibraryError: their words are asked for and ICU is not installed.
    """
    if unspaced == "measure":
        return {}
    from headrace.filters.analysis.letters import letters_digest

    letters = {"letters": letters_digest()}
    if unspaced == "null":
        return letters
    wrapper = library_version("icu4py", extra="segment", purpose="the option unspaced = 'segment'")
    from icu4py import icu_version

    return {**letters, "icu4py": wrapper, "icu": icu_version}


def null_where_unspaced(
    unspaced: Unspaced, batch: TextBatch, values: Mapping[str, Sequence[Any]], columns: Collection[str]
) -> Mapping[str, Sequence[Any]]:
    """Return the values with None in some columns of texts whose words the option leaves undefined."""
    if unspaced == "measure":
        return values
    from headrace.filters.analysis.letters import load_letters
    from headrace.filters.analysis.scripts import mostly_unspaced, without_dictionary

    find = mostly_unspaced if unspaced == "null" else without_dictionary
    concerned = find(*batch.utf8, *load_letters()).tolist()
    if not any(concerned):
        return values
    return {
        name: [None if null else value for value, null in zip(found, concerned, strict=True)]
        if name in columns
        else found
        for name, found in values.items()
    }
