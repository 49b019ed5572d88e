"""Do ICU's words decide as those of datatrove's tokenizers? `python -m benchmarks.segmentation FILE... [--json]`.

A file is a WARC, a zip of plain texts, or a MediaWiki dump (`.xml.bz2`). Texts in Chinese, Japanese and Thai, told
by their letters, are cut at line ends into pieces of about 500 characters. Each piece comes with
three damaged copies, so that there is something to drop: its beginning over and over, a line for every few characters,
and its characters in another order. Then datatrove 0.10.1's filters with its tokenizer of the language, and our signals
with `unspaced = "segment"` and `"measure"`, decide over the same texts by FineWeb2's thresholds and stop words.
Words are compared on the whole pieces: a boundary counts where both have it, white space left out. Speed is the
processor time of cutting words alone, medians of rounds.

datatrove's tokenizers need jieba, sudachipy and sudachidict_core, and pythainlp; a language whose tokenizer is not here
is left out, saying so.
"""

import bz2
import json
import random
import re
import statistics
import sys
import time
from argparse import ArgumentParser
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from pathlib import Path
from typing import Any
from zipfile import ZipFile

from benchmarks.datatrove_reference import document
from benchmarks.filter_parity import Comparison, Reasons, cut_pages
from benchmarks.language import extract_texts
from headrace.filters.analysis.tokens import word_strings
from headrace.filters.contract import Signal, TextBatch
from headrace.filters.judging import failures, first_failures
from headrace.filters.named_rules import load_rule_set
from headrace.filters.punctuation import PUNCTUATION_OR_TERMINAL
from headrace.filters.rules import ColumnId, Rule
from headrace.filters.signals.fineweb import FineWeb
from headrace.filters.signals.gopher import GopherQuality, GopherRepetition
from headrace.filters.signals.stop_words import StopWords, stop_word_lists
from headrace.filters.unspaced import Unspaced

PIECE_CHARS, ROUNDS = 500, 3
BY_SCRIPT = {  # the letters of a language and their share of all, in the order in which it is looked for
    "jpn_Jpan": (re.compile("[\u3040-\u30ff]"), 0.1),
    "cmn_Hani": (re.compile("[\u3400-\u9fff]"), 0.5),
    "tha_Thai": (re.compile("[\u0e01-\u0e5b]"), 0.5),
}
_LINK, _MARKUP = re.compile(r"\[\[(?:[^\[\]|]*\|)?([^\[\]|]*)\]\]"), re.compile(r"^[ {|<=*#:;!}\[]|[{}<>\[\]|]")


@dataclass(frozen=True)
class Outcome:
    """One language: how decisions, words and speeds compare; speeds in MB of UTF-8 a second."""

    language: str
    documents: int
    both_drop: int
    agreement: float
    same_reason: float
    whole: int
    whole_both_drop: int
    whole_agreement: float
    agreement_measured: float
    boundary_f1: float
    our_length: float
    their_length: float
    our_speed: float
    their_speed: float


def language_of(text: str) -> str | None:
    """Return the language that a text's letters tell, or None."""
    num_letters = sum(map(str.isalpha, text))
    for language, (letters, share) in BY_SCRIPT.items():
        if len(letters.findall(text)) > share * num_letters:
            return language
    return None


def load_texts(path: Path) -> Iterator[str]:
    """Yield the texts of a file."""
    if path.suffix == ".zip":
        with ZipFile(path) as archive:
            for name in archive.namelist():
                if name.endswith(".txt"):
                    yield archive.read(name).decode(errors="replace")
    elif path.name.endswith(".xml.bz2"):
        from lxml import etree

        for element in etree.fromstring(bz2.decompress(path.read_bytes())).iter("{*}text"):
            yield "\n".join(prose_lines(element.text or ""))
    else:
        yield from extract_texts([path])


def prose_lines(wikitext: str) -> Iterator[str]:
    """Yield the lines without markup, of links the text."""
    for line in wikitext.splitlines():
        plain = _LINK.sub(r"\1", line.replace("'''", ""))
        if plain and not _MARKUP.search(plain):
            yield plain


def damaged(piece: str, number: int) -> Iterator[str]:
    """Yield a piece and its damaged copies."""
    yield piece
    yield piece[: max(len(piece) // 8, 1)] * 8
    yield "\n".join(piece[start : start + 6] for start in range(0, len(piece), 6))
    yield "".join(random.Random(number).sample(piece, len(piece)))


def reference_judge(language: str) -> Callable[[str], str | None]:
    """Return datatrove's filters of words as FineWeb2 sets them up: a text's first reason to be dropped."""
    from datatrove.pipeline.filters import FineWebQualityFilter, GopherQualityFilter, GopherRepetitionFilter

    bound = {rule.reason: _limit(rule, language) for rule in load_rule_set("fineweb2").composed()}
    tokenizer = language.partition("_")[0]
    blocks = (
        GopherRepetitionFilter(
            dup_line_frac=bound["dup_line_frac"],
            dup_para_frac=0,
            dup_line_char_frac=0,
            dup_para_char_frac=0,
            top_n_grams=tuple((n, bound[f"top_{n}_gram"]) for n in (2, 3, 4)),
            dup_n_grams=tuple((n, bound[f"duplicated_{n}_n_grams"]) for n in range(5, 11)),
            language=tokenizer,
        ),
        FineWebQualityFilter(
            line_punct_thr=bound["line_punct_ratio"],
            short_line_thr=999,
            char_duplicates_ratio=bound["char_dup_ratio"],
            new_line_ratio=bound["list_ratio"],
            language=tokenizer,
        ),
        GopherQualityFilter(
            min_avg_word_length=bound["gopher_below_avg_threshold"],
            max_avg_word_length=bound["gopher_above_avg_threshold"],
            max_non_alpha_words_ratio=bound["gopher_below_alpha_threshold"],
            stop_words=stop_word_lists()[language],
            language=tokenizer,
        ),
    )

    def judge(text: str) -> str | None:
        results = (block.filter(document(text)) for block in blocks)
        return next((result[1] for result in results if isinstance(result, tuple) and not result[0]), None)

    return judge


def _limit(rule: Rule, language: str) -> float:
    """Return a rule's one bound for a language; 0, which turns datatrove's rules off, where there is none."""
    bounds = (rule.by or {}).get("glotlid.label", {}).get(language, rule)
    return next((limit for limit in (bounds.min, bounds.max) if limit is not None), 0.0)


def our_reasons(texts: Sequence[str], language: str, unspaced: Unspaced) -> Reasons:
    """Return each text's first reason to be dropped by the set `fineweb2`, its language being known."""
    batch = TextBatch(texts, [""] * len(texts))
    columns: dict[str, Sequence[Any]] = {"glotlid.label": [language] * len(texts), "glotlid.score": [1.0] * len(texts)}
    signals: tuple[Signal, ...] = (
        GopherRepetition(unspaced=unspaced),
        FineWeb(unspaced=unspaced),
        GopherQuality(unspaced=unspaced),
        StopWords(languages=(language,), unspaced=unspaced),
    )
    for signal in signals:
        columns |= {str(ColumnId(signal.name, "raw", name)): found for name, found in signal.measure(batch).items()}
    rules = [rule for rule in load_rule_set("fineweb2").composed() if rule.column in columns]
    return [None if index < 0 else rules[index].reason for index in first_failures(failures(rules, columns))]


def our_words(texts: Sequence[str]) -> list[list[str]]:
    """Return ICU's words of texts that are in scripts without spaces."""
    batch = TextBatch(texts, [""] * len(texts))
    return word_strings(batch.utf8.data, batch.words_for("english", "segment"))


def boundary_f1(ours: Sequence[Sequence[str]], theirs: Sequence[Sequence[str]]) -> float:
    """Return F1 over the ends of words, of texts of which both have the same characters."""
    shared = total = 0
    for pair in zip(ours, theirs, strict=True):
        solid = [["".join(word.split()).replace("\u200b", "") for word in words] for words in pair]
        if "".join(solid[0]) == "".join(solid[1]):
            one, other = (set(accumulate(map(len, words))) for words in solid)
            shared, total = shared + 2 * len(one & other), total + len(one) + len(other)
    return shared / total if total else float("nan")


def mean_length(words: Sequence[Sequence[str]]) -> float:
    """Return characters a word, of all words that are no punctuation."""
    lengths = [len(word) for of_text in words for word in of_text if not PUNCTUATION_OR_TERMINAL.issuperset(word)]
    return statistics.mean(lengths)


def speed(cut: Callable[[], Any], num_bytes: int) -> float:
    """Return MB a second, the median of rounds."""
    seconds = []
    for _ in range(ROUNDS):
        start = time.process_time()
        cut()
        seconds.append(time.process_time() - start)
    return num_bytes / 1e6 / statistics.median(seconds)


def compare(language: str, pieces: Sequence[str]) -> Outcome:
    """Compare decisions, words and speeds over the pieces of one language; raises ImportError without a tokenizer."""
    from datatrove.utils.word_tokenizers import load_word_tokenizer

    tokenizer = load_word_tokenizer(language.partition("_")[0])
    texts = [text for number, piece in enumerate(pieces) for text in damaged(piece, number)]
    judge = reference_judge(language)
    theirs = [judge(text) for text in texts]
    by_icu, measured = our_reasons(texts, language, "segment"), our_reasons(texts, language, "measure")
    words, their_words = our_words(pieces), [tokenizer.word_tokenize(piece) for piece in pieces]
    num_bytes = sum(len(piece.encode()) for piece in pieces)
    batch = TextBatch(pieces, [""] * len(pieces))

    def cut() -> None:
        batch.forget_analyses()
        batch.words_for("english", "segment")

    whole = slice(None, None, len(texts) // len(pieces))  # each piece stands before its damaged copies
    all_of, whole_of, uncut = (
        Comparison.of(language, *reasons)
        for reasons in ((by_icu, theirs), (by_icu[whole], theirs[whole]), (measured, theirs))
    )
    return Outcome(
        language,
        documents=all_of.documents,
        both_drop=all_of.both_drop,
        agreement=all_of.agreement,
        same_reason=all_of.same_reason / all_of.documents,
        whole=whole_of.documents,
        whole_both_drop=whole_of.both_drop,
        whole_agreement=whole_of.agreement,
        agreement_measured=uncut.agreement,
        boundary_f1=boundary_f1(words, their_words),
        our_length=mean_length(words),
        their_length=mean_length(their_words),
        our_speed=speed(cut, num_bytes),
        their_speed=speed(lambda: [tokenizer.word_tokenize(piece) for piece in pieces], num_bytes),
    )


def gather(paths: Sequence[Path]) -> Mapping[str, list[str]]:
    """Return the pieces of each language."""
    pieces: dict[str, list[str]] = {language: [] for language in BY_SCRIPT}
    for text in (text for path in paths for text in load_texts(path)):
        language = language_of(text)
        if language:
            pieces[language] += cut_pages(text, PIECE_CHARS)
    return pieces


def main(arguments: Sequence[str]) -> None:
    """Print a row for each language, or JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.segmentation")
    parser.add_argument("files", nargs="+", type=Path)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    outcomes = []
    for language, pieces in gather(options.files).items():
        try:
            outcomes += [compare(language, pieces)] if pieces else []
        except ImportError as error:
            print(f"{language}: left out: {error}", file=sys.stderr)
    if options.json:
        print(json.dumps([as_row(outcome) for outcome in outcomes]))
        return
    counts = ("pieces", "both drop", "agree", "with copies", "both drop", "agree", "same reason", "agree, uncut")
    print(" " * 8 + "".join(f"{head:>13}" for head in (*counts, "boundaries", "length", "theirs", "MB/s", "theirs")))
    for o in outcomes:
        of_whole = f"{o.whole:13}{o.whole_both_drop:13}{o.whole_agreement:13.1%}"
        of_all = f"{o.documents:13}{o.both_drop:13}{o.agreement:13.1%}{o.same_reason:13.1%}{o.agreement_measured:13.1%}"
        of_words = f"{o.boundary_f1:13.1%}{o.our_length:13.2f}{o.their_length:13.2f}"
        print(f"{o.language}{of_whole}{of_all}{of_words}{o.our_speed:13.1f}{o.their_speed:13.2f}")


def as_row(outcome: Outcome) -> dict[str, Any]:
    """Return the figures as benchmarks print them."""
    row = {"name": outcome.language, "ours": outcome.our_speed, "peer": outcome.their_speed, "unit": "MB/s"}
    ratio = {"ratio": outcome.our_speed / outcome.their_speed, "spread": None, "required": None}
    return {**row, **ratio, **vars(outcome)}


if __name__ == "__main__":
    main(sys.argv[1:])
