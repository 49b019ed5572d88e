"""Exposure: which steps of a run were trained on a document, a URL or a domain, and with how many tokens.

The inverse of `trace`, and as little of a log: a document's rows are found in the layout of its window, their place in
each epoch by the inverse of the permutations, and the sample by counting the rows of all sources with an earlier time.
"""

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass

import numpy as np

from headrace.pipeline.suppressions import What, names_of, normal_value
from headrace.pipeline.tables import read_batches
from headrace.trainer.stream import Stream
from headrace.trainer.streaming.corpus import Corpus, upstream


@dataclass(frozen=True)
class Exposed:
    """`length` positions of a document's line, from `start` on, in a row of a step's batch (both from 0)."""

    step: int
    row: int
    corpus: int
    doc_id: str
    url: str | None
    start: int
    length: int


def exposure(stream: Stream, what: What, value: str, steps: int) -> list[Exposed]:
    """Return where a document, URL or domain is in the first steps of a run, in the order of the batches.

    Raises:
        InputError: the value is none of its kind.
    """
    value = normal_value(what, value)
    found: list[Exposed] = []
    for number, corpus in enumerate(stream.corpora):
        urls = dict(_documents(corpus, what, value))
        found += _exposed(stream, number, urls, steps)
    return sorted(found, key=_place)


def exposure_of(stream: Stream, doc_ids: Collection[str], steps: int) -> list[Exposed]:
    """Return where documents are in the first steps of a run, in the order of the batches; no URL is told."""
    urls = dict.fromkeys(doc_ids)
    found = [one for number in range(len(stream.corpora)) for one in _exposed(stream, number, urls, steps)]
    return sorted(found, key=_place)


def _place(one: Exposed) -> tuple[int, int, int]:
    return one.step, one.row, one.start


def _documents(corpus: Corpus, what: What, value: str) -> Iterator[tuple[str, str | None]]:
    """Yield ids and URLs of the documents that are meant."""
    manifest = upstream(upstream(corpus.tokens, "encoded", corpus.store), "corpus", corpus.store)
    for part in range(len(manifest.parts)):
        for batch in read_batches(corpus.store.part_path(manifest, part), ["doc_id", "url"]):
            for document in batch.to_pylist():
                if (what, value) in names_of(document):
                    yield document["doc_id"], document["url"]


def _exposed(stream: Stream, number: int, urls: Mapping[str, str | None], steps: int) -> Iterator[Exposed]:
    plan = stream.plan
    for begin, stop, era in stream.eras(steps):
        table, first, end = era.tables[number], plan.first_sample(begin), plan.first_sample(stop)
        for window, documents in table.find(urls, era.windows_served(number, first, end)).items():
            packed = table.layout(window).packed
            for serving, doc_id in documents:
                for piece in np.flatnonzero(packed.document == serving).tolist():
                    row = int(np.searchsorted(packed.first, piece, side="right")) - 1
                    for sample in era.samples_of(number, window, row, first, end):
                        step = plan.step_of(sample)
                        start, length = int(packed.start[piece]), int(packed.length[piece])
                        place = sample - plan.first_sample(step)
                        yield Exposed(step, place, number, doc_id, urls[doc_id], start, length)
