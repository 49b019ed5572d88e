"""Is decontamination fast? `python -m benchmarks.decontamination [--tasks FOLDER] [--rounds N] [--json]`, on one core.

13-grams of ten evaluation sets are looked for in pages of books, one in ten of which holds a whole item. Ours, and
datatrove 0.10.1's `NGramsDecontFilter` over the same items, run in turn on the same texts. Which documents are found is
compared, too: datatrove takes every number for 0 and cuts words by spaCy's rules, ours keeps numbers.
"""

import json
import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.datatrove_reference import document
from benchmarks.dedup import compare
from benchmarks.made_text import page_texts
from headrace.filters.utf8 import Utf8
from headrace.pipeline.contamination.index import EvaluationIndex
from headrace.pipeline.contamination.items import Item, read_items

SETS: Sequence[tuple[str, str, tuple[str, ...], str]] = (
    ("gsm8k", "gsm8k.json.gz", ("sQuestion",), ""),
    ("humaneval", "HumanEval.jsonl.gz", ("prompt", "canonical_solution"), ""),
    ("arc-easy", "arc-easy-train.json.gz", ("instruction",), ""),
    ("arc-challenge", "arc-challenge-train.json.gz", ("instruction",), ""),
    ("boolq", "boolq-train.json.gz", ("instruction",), ""),
    ("openbookqa", "openbookqa-train.json.gz", ("instruction",), ""),
    ("xquad-en", "xquad.en.json.gz", ("context", "qas.question"), "data.paragraphs"),
    ("xquad-de", "xquad.de.json.gz", ("context", "qas.question"), "data.paragraphs"),
    ("ecare", "ecare-train.jsonl.gz", ("premise", "hypothesis1", "hypothesis2"), ""),
    ("scitldr", "scitldr-train.jsonl.gz", ("source",), ""),
)
N, BATCH, NUM_PEER = 13, 512, 100


def ours(index: EvaluationIndex, texts: Sequence[str]) -> list[bool]:
    found: list[bool] = []
    for start in range(0, len(texts), BATCH):
        first = index.find(Utf8.of(texts[start : start + BATCH])).first
        found += (np.diff(first) > 0).tolist()
    return found


def theirs(items: Sequence[Item]) -> Callable[[Sequence[str]], list[bool]]:
    """Return datatrove's filter with the items in its index."""
    from datatrove.pipeline.decont import NGramsDecontFilter, NGramsDecontIndexer
    from datatrove.pipeline.decont.n_grams import NGramsDecontConfig
    from xxhash import xxh64_intdigest

    config = NGramsDecontConfig(n_grams=N)
    indexer, block = object.__new__(NGramsDecontIndexer), NGramsDecontFilter("/nowhere", config=config)
    indexer.config, indexer.tokenizer = config, block.tokenizer  # it asks for `lighteval`, to load tasks from a hub
    for one in (indexer, block):
        one.hash_func = lambda ngram: xxh64_intdigest(ngram.encode())  # xxhash 4 refuses str; xxhash 3 encoded it so
    block._index_hashes = {
        value: item.benchmark for item in items for text in item.texts for value in indexer.compute_hashes(text)
    }
    return lambda texts: [block.filter(document(text)) is not True for text in texts]


def main(arguments: Sequence[str]) -> None:
    """Print the comparison."""
    parser = ArgumentParser(prog="python -m benchmarks.decontamination")
    parser.add_argument("--tasks", type=Path, default=Path("../shared/data/tasks"))
    parser.add_argument("--books", default="../shared/data/books/ENG*.txt.gz")
    parser.add_argument("--documents", type=int, default=5000)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    os.sched_setaffinity(0, {max(os.sched_getaffinity(0))})
    items = [
        item
        for name, file, fields, records in SETS
        for item in read_items(name, [options.tasks / file], fields, records)
    ]
    index, random = EvaluationIndex.build(items, N, N), np.random.default_rng(1)
    texts = page_texts(options.books, options.documents)
    long = [item for number, item in enumerate(items) if index.num_ngrams[number]]
    for place in range(0, len(texts), 10):
        texts[place] += " " + long[int(random.integers(0, len(long)))].texts[0]
    few, peer = texts[:NUM_PEER], theirs(items)
    megabytes = [sum(len(text.encode()) for text in some) / 1e6 for some in (texts, few)]
    ours(index, few), peer(few[:2])
    sides = (lambda: ours(index, texts), megabytes[0]), (lambda: peer(few), megabytes[1])
    row: dict[str, Any] = compare("decontamination / datatrove", None, options.rounds, *sides)  # type: ignore[arg-type]
    row |= {"unit": "MB/s", "required_speed": 10.0}
    agree = [a == b for a, b in zip(ours(index, few), peer(few), strict=True)]
    if options.json:
        print(json.dumps([row]))
        return
    print(f"{len(items):,} items of {len(SETS)} sets, {len(index.keys):,} {N}-grams; {len(texts):,} texts")
    print(
        f"ours {row['ours']} MB/s (10 required), datatrove {row['peer']} MB/s: {row['ratio']} x, spread {row['spread']}"
    )
    print(f"the same documents are found in {sum(agree)} of {len(agree)} cases")


if __name__ == "__main__":
    main(sys.argv[1:])
