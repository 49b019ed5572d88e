"""Write the tables of `headrace.filters.words` from the installed spaCy.

Run as `python -m benchmarks.generate_english_tokenizer`. The patterns are spaCy's own, in its order of
alternatives. Two are rewritten without changing what they match: prefixes lose their `^`, since they are matched at
a position; and the optional user part of a URL, `\\S+(?::\\S*)?@`, becomes `\\S+@`, which accepts the same strings
and does not take quadratic time on a long chunk of colons.
"""

import json
import re
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

OUTPUT = Path(__file__).parents[1] / "filters" / "data" / "english_tokenizer.json"
_USER = r"(?:\S+(?::\S*)?@)?"


def english_tables() -> dict[str, Any]:
    """Return the tables as `EnglishTokenizer` takes them."""
    import spacy
    from spacy.pipeline.sentencizer import Sentencizer

    nlp: Any = spacy.blank("en")
    tokenizer = nlp.tokenizer
    release = version("spacy")
    prefixes = [prefix for prefix in nlp.Defaults.prefixes if prefix.strip()]
    url = _pattern(tokenizer.url_match)
    if _pattern(tokenizer.prefix_search) != "|".join("^" + prefix for prefix in prefixes) or _USER not in url:
        raise SystemExit(f"spaCy {release} builds its patterns in another way; look at them again")
    if tokenizer.token_match is not None:
        raise SystemExit(f"spaCy {release} has a token_match for English, which words.py does not know")
    exceptions = {string: [token.text for token in tokenizer(string)] for string in tokenizer.rules}
    return {
        "source": f"spaCy {release}, blank English pipeline; MIT License, ExplosionAI GmbH and others",
        "prefix": "|".join(prefixes),
        "suffix": _pattern(tokenizer.suffix_search),
        "infix": _pattern(tokenizer.infix_finditer),
        "url": pin_classes(url.replace(_USER, r"(?:\S+@)?")),
        "units": _units(_pattern(tokenizer.suffix_search)),
        "exceptions": dict(sorted(exceptions.items())),
        "sequences": _sequences(nlp),
        "terminals": sorted(Sentencizer.default_punct_chars),
    }


def pin_classes(pattern: str) -> str:
    """Return a pattern whose classes of Unicode (`\\w`, `\\d`, `\\S`) are written out for all Pythons."""
    pinned = {r"\w": _ranges(str.isalnum) + "_", r"\d": _ranges(str.isdecimal), r"\S": "^" + _ranges(str.isspace)}
    for short, ranges in pinned.items():
        inside, alone = f"[{short}", short
        pattern = pattern.replace(inside, f"[{ranges}").replace(alone, f"[{ranges}]")
    return pattern


def _ranges(test: Callable[[str], bool]) -> str:
    """Return the ranges of a character class that holds what passes a test."""
    members = [code for code in range(sys.maxunicode + 1) if test(chr(code))]
    ends = [code for code in members if not test(chr(min(code + 1, sys.maxunicode)))]
    starts = [code for code in members if code == 0 or not test(chr(code - 1))]
    return "".join(f"\\U{start:08x}-\\U{end:08x}" for start, end in zip(starts, ends, strict=True))


def _units(suffix: str) -> list[str]:
    """Return the units of measure that are suffixes behind a digit."""
    (found,) = re.findall(r"\(\?<=\[0-9\]\)\(\?:(km\|[^)]*)\)\$", suffix)
    return sorted(found.split("|"))


def _pattern(method: Any) -> str:
    return str(method.__self__.pattern)


def _sequences(nlp: Any) -> list[list[str]]:
    """Return how each exception that holds an affix is cut without exceptions; single tokens change nothing."""
    from spacy.tokenizer import Tokenizer

    full = nlp.tokenizer
    plain = Tokenizer(
        nlp.vocab,
        prefix_search=full.prefix_search,
        suffix_search=full.suffix_search,
        infix_finditer=full.infix_finditer,
        url_match=full.url_match,
    )
    with_affix = [s for s in full.rules if full.find_prefix(s) or full.find_infix(s) or full.find_suffix(s)]
    cut = ([token.text for token in plain(string)] for string in with_affix)
    return sorted(sequence for sequence in cut if len(sequence) > 1)


if __name__ == "__main__":
    OUTPUT.parent.mkdir(exist_ok=True)
    OUTPUT.write_text(json.dumps(english_tables(), ensure_ascii=False, indent=1) + "\n", encoding="utf-8")
    print(OUTPUT)
