"""The stream: batch number s as pure arithmetic over a plan (law 3).

Sample n of a run belongs to a source (`Mixture`) and is that source's sample number m. In epoch m // rows the source's
windows, and the rows within each, are permuted by name: (seed, source, epoch, window). So the batch of a step depends
on no rank, no worker and no history; the state of a stream is the plan's digest and the digest of its schedule log,
which stays empty unless a controller changes the mixture.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from headrace.pipeline.artifacts import make_one, manifest_path
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import InputError
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.schema import Digest, Manifest, Signed, Strict
from headrace.pipeline.split import HELDOUT_UNIT
from headrace.pipeline.stages.stream_index import StreamIndex
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.batch import IGNORE, Batch
from headrace.trainer.order import Mixture, permutation
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.windows import Piece, TokenTable, Window


class PlannedCorpus(Strict):
    """A corpus of a plan: its tokens, index and tokenizer by content, where they lay, and its weight."""

    name: str
    tokens: Digest
    index: Digest
    tokenizer: Digest
    weight: float
    path: str


class StreamPlan(Signed):
    """The resolved data of a run. `digest` covers places too; `identity` is what a batch depends on."""

    corpora: tuple[PlannedCorpus, ...]
    sequence_length: int
    global_batch: int
    heldout: int
    seed: int

    @property
    def identity(self) -> str:
        """The digest of all that determines a batch: contents, weights, shapes and seed, and no path."""
        fields = self.model_dump(mode="json", exclude={"digest"})
        for corpus in fields["corpora"]:
            del corpus["path"], corpus["name"]
        return digest_json(fields)


@dataclass(frozen=True)
class Corpus:
    """A corpus opened for streaming."""

    name: str
    store: Store
    tokens: Manifest
    index: Manifest
    tokenizer_path: Path
    vocabulary: Vocabulary

    def table(self, split: str) -> TokenTable:
        """Return the windows of a split."""
        return TokenTable(self.store, self.tokens, self.index, split, self.vocabulary.end_of_text)


def open_corpus(path: Path, sequence_length: int, heldout: int) -> Corpus:
    """Open a token artifact by its manifest, and make its stream index if there is none yet.

    Raises:
        InputError: it is no manifest of tokens, holds no document to train on, or its tokenizer has seen what is to be
            held out.
    """
    path = path / MANIFEST if path.is_dir() else path
    tokens = Manifest.load(path)
    if tokens.stage != "tokenize":
        raise InputError(f"{path}: a manifest of stage {tokens.stage!r}; training reads the one of stage 'tokenize'")
    store = Store.containing(path)
    stage = StreamIndex(sequence_length=sequence_length, heldout=heldout)
    index = make_one("stream index", stage, {"tokens": tokens}, store, InlineEngine())
    encoded = upstream(tokens, "encoded", store)
    tokenizer = upstream(encoded, "tokenizer", store)
    _refuse_seen(path, tokenizer, heldout)
    file = tokenizer.parts[0].files[tokenizer.table]
    tokenizer_path = store.artifact_folder(tokenizer.stage, tokenizer.key) / file.name
    name = f"{tokens.name} {tokens.content[:12]}"
    return Corpus(name, store, tokens, index, tokenizer_path, Vocabulary.load(tokenizer_path))


def _refuse_seen(path: Path, tokenizer: Manifest, heldout: int) -> None:
    """Raise `InputError` if the tokenizer was trained on documents that are to be held out."""
    kept_from_it = int(tokenizer.config.get("heldout", heldout))
    if heldout > kept_from_it:
        raise InputError(
            f"{path}: {heldout} in 10,000 documents are to be held out, but only {kept_from_it} were kept from the "
            f"tokenizer; set heldout = {kept_from_it / HELDOUT_UNIT} in [data], or build with heldout = {heldout} in "
            "[split] of the recipe"
        )


def upstream(manifest: Manifest, role: str, store: Store) -> Manifest:
    """Return the manifest that another was made from, by its role."""
    source = next(item for item in manifest.inputs if item.role == role)
    path = store.find_manifest(source.stage, source.key)
    if path is None:
        raise InputError(f"{store.root}: the {role} that {manifest.name!r} was made from is gone; build it again")
    return Manifest.load(path)


class _Source:
    """One corpus as an endless, permuted line of rows."""

    def __init__(self, number: int, table: TokenTable, seed: int) -> None:
        self._name, self._table = (seed, number), table
        self._order = lru_cache(2)(self._epoch_order)
        self._rows = lru_cache(64)(self._row_order)

    @cached_property
    def num_rows(self) -> int:
        """Rows of one epoch."""
        return sum(place.num_rows for place in self._table.places)

    def _epoch_order(self, epoch: int) -> tuple[Any, Any]:
        windows = permutation(len(self._table.places), "windows", *self._name, epoch)
        rows = np.array([place.num_rows for place in self._table.places], dtype=np.int64)
        return windows, np.cumsum(rows[windows])

    def _row_order(self, epoch: int, window: int) -> Any:
        return permutation(self._table.places[window].num_rows, "rows", *self._name, epoch, window)

    def locate(self, sample: int) -> tuple[int, int]:
        """Return the window and row that serve this source's sample."""
        epoch, position = divmod(sample, self.num_rows)
        windows, ends = self._order(epoch)
        place = int(np.searchsorted(ends, position, side="right"))
        window = int(windows[place])
        row = position - (int(ends[place - 1]) if place else 0)
        return window, int(self._rows(epoch, window)[row])

    def window(self, number: int) -> Window:
        """Return a window's documents."""
        return self._table.window(number)


class Stream:
    """Gives any batch of a plan, and its held-out rows (`trainer.batch.BatchSource`)."""

    def __init__(self, plan: StreamPlan, corpora: Sequence[Corpus]) -> None:
        self.plan, self.corpora = plan, tuple(corpora)
        self._byte_lengths = corpora[0].vocabulary.byte_lengths()
        self._mixture = Mixture.of([corpus.weight for corpus in plan.corpora])
        self._sources = [_Source(number, corpus.table("train"), plan.seed) for number, corpus in enumerate(corpora)]
        for corpus, source in zip(corpora, self._sources, strict=True):
            if not source.num_rows:
                raise InputError(f"{corpus.name}: no document is left to train on (held out: {plan.heldout} in 10,000)")

    @property
    def sequence_length(self) -> int:
        """Positions in a row."""
        return self.plan.sequence_length

    @property
    def global_batch(self) -> int:
        """Rows of a step, over all ranks."""
        return self.plan.global_batch

    @property
    def vocab_size(self) -> int:
        """Number of token ids."""
        return self.corpora[0].vocabulary.size

    def state(self) -> dict[str, Any]:
        """Return what fixes every batch: the plan, and the log of changes to its mixture (none)."""
        return {"plan": self.plan.identity, "schedule": {"digest": digest_json([]), "length": 0}}

    def contents(self) -> tuple[str, ...]:
        """Return the content ids of the corpora's tokens, in order."""
        return tuple(corpus.tokens for corpus in self.plan.corpora)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        """Return the rank's rows of the batch of a step.

        Raises:
            InputError: the global batch cannot be shared evenly among the ranks, or there is no such rank.
        """
        if self.global_batch % world:
            raise InputError(f"global_batch is {self.global_batch}, which {world} processes cannot share evenly")
        if not 0 <= rank < world:
            raise InputError(f"there is no process {rank} of {world}; they count from 0")
        share = self.global_batch // world
        first = step * self.global_batch + rank * share
        return self._assemble(step, [self._find(sample) for sample in range(first, first + share)])

    def pieces(self, step: int) -> list[tuple[int, list[Piece]]]:
        """Return for each row of a step's batch which corpus it is from and what it holds."""
        found = []
        for sample in range(step * self.global_batch, (step + 1) * self.global_batch):
            source, _ = self._mixture.locate(sample)
            window, row = self._find(sample)
            found.append((source, window.pieces(row, self.sequence_length)))
        return found

    def heldout(self) -> Iterator[Batch]:
        """Yield the held-out rows of all corpora, each once, in order of storage."""
        rows: list[tuple[Window, int]] = []
        for corpus in self.corpora:
            table = corpus.table("heldout")
            for number, place in enumerate(table.places):
                for row in range(place.num_rows):
                    rows.append((table.window(number), row))
                    if len(rows) == self.global_batch:
                        yield self._assemble(0, rows)
                        rows = []
        if rows:
            yield self._assemble(0, rows)

    def _find(self, sample: int) -> tuple[Window, int]:
        source, number = self._mixture.locate(sample)
        window, row = self._sources[source].locate(number)
        return self._sources[source].window(window), row

    def _assemble(self, step: int, rows: Sequence[tuple[Window, int]]) -> Batch:
        shape = (len(rows), self.sequence_length)
        tokens, positions = np.zeros(shape, dtype=np.int32), np.zeros(shape, dtype=np.int32)
        targets, documents = np.full(shape, IGNORE, dtype=np.int32), np.full(shape, -1, dtype=np.int32)
        for number, (window, row) in enumerate(rows):
            line = slice(row * self.sequence_length, (row + 1) * self.sequence_length)
            filled = len(window.tokens[line])
            tokens[number, :filled], targets[number, :filled] = window.tokens[line], window.targets[line]
            for index, piece in enumerate(window.pieces(row, self.sequence_length)):
                place = slice(piece.offset, piece.offset + piece.length)
                positions[number, place] = np.arange(piece.length)
                documents[number, place] = index
        lengths = np.where(targets == IGNORE, 0, self._byte_lengths[np.maximum(targets, 0)])
        return Batch(step, tokens, targets, positions, documents, lengths.sum(axis=1, dtype=np.int64))


def open_stream(config: DataConfig, seed: int) -> Stream:
    """Resolve the data of a run file: open corpora, make missing stream indexes, fix the plan.

    Raises:
        InputError: a manifest is absent or of another stage, or the corpora have different tokenizers.
    """
    heldout = round(config.heldout * HELDOUT_UNIT)
    corpora = [open_corpus(Path(item.tokens), config.sequence_length, heldout) for item in config.corpora]
    planned = tuple(
        PlannedCorpus(
            name=corpus.name,
            tokens=corpus.tokens.content,
            index=corpus.index.content,
            tokenizer=upstream(upstream(corpus.tokens, "encoded", corpus.store), "tokenizer", corpus.store).content,
            weight=item.weight,
            path=manifest_path(corpus.tokens, corpus.store),
        )
        for item, corpus in zip(config.corpora, corpora, strict=True)
    )
    if len({corpus.tokenizer for corpus in planned}) > 1:
        names = ", ".join(f"{corpus.name}: {corpus.tokenizer[:12]}" for corpus in planned)
        raise InputError(f"the corpora of a run must share one tokenizer ({names}); tokenize them with the same one")
    plan = StreamPlan(
        corpora=planned,
        sequence_length=config.sequence_length,
        global_batch=config.global_batch,
        heldout=heldout,
        seed=seed,
    )
    return Stream(plan, corpora)
