"""Token artifacts of made documents, as large as a benchmark wants, without the texts that they could be from."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
from tokenizers import Tokenizer, models, pre_tokenizers

from headrace.pipeline.artifacts import Planned, make_one, publish
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.schema import TOKENS, Commit, Ledger, Manifest, Tally, TaskInput
from headrace.pipeline.stages.contract import Planning, Stage
from headrace.pipeline.stages.tokenize import Encode, Shuffle
from headrace.pipeline.stages.tokenizer import TrainTokenizer
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import write_table
from headrace.pipeline.vocabulary import END_OF_TEXT

Int64s = npt.NDArray[np.int64]
VOCABULARY = 50_000
_AT_ONCE = 50_000


def made_lengths(num_tokens: int, seed: int) -> Int64s:
    """Return lengths of documents of about so many tokens together, log-normal like those of the web."""
    random = np.random.default_rng(seed)
    lengths = random.lognormal(6.2, 0.9, num_tokens // 300 + 10).astype(np.int64) + 1
    return lengths[: int(np.searchsorted(np.cumsum(lengths), num_tokens)) + 1]


def make_tokens(store: Store, lengths: Int64s, seed: int, parts: int = 1, vocabulary: int = VOCABULARY) -> Path:
    """Make a token artifact of `parts` parts of documents of these lengths; return the path of its manifest."""
    random = np.random.default_rng(seed)
    tokenizer = _published(store, TrainTokenizer(vocab_size=vocabulary), seed, [tokenizer_json(vocabulary)])
    batches = [
        _rows(lengths[start : start + _AT_ONCE], random, vocabulary) for start in range(0, len(lengths), _AT_ONCE)
    ]
    encoded = _encoded(store, seed, batches, tokenizer)
    size = encoded.ledger.output.bytes
    stage = Shuffle(text_bytes=max(1, -(-size // parts)))
    tokens = make_one("tokens", stage, {"encoded": encoded}, store, InlineEngine())
    return store.artifact_folder(tokens.stage, tokens.key) / MANIFEST


def tokenizer_json(size: int) -> bytes:
    """Return a byte-level tokenizer of so many made tokens."""
    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    names = [*letters, *(f"{a}{b}{c}" for a in letters[:40] for b in letters[:40] for c in letters[:40])]
    vocabulary = {name: number for number, name in enumerate(names[: size - 1])}
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=letters[0]))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.add_special_tokens([END_OF_TEXT])
    found: str = tokenizer.to_str()
    return found.encode()


def _rows(lengths: Int64s, random: np.random.Generator, vocabulary: int) -> pa.RecordBatch:
    size = len(lengths)
    digits = random.bytes(16 * size).hex()
    ids = [digits[start : start + 32] for start in range(0, 32 * size, 32)]
    ids.sort(key=lambda doc_id: doc_id[16:])
    tokens = random.zipf(1.3, int(lengths.sum())).clip(1, vocabulary - 2).astype("<u2")
    ends = np.concatenate([[0], np.cumsum(2 * lengths)]).astype(np.int32)
    blobs = pa.Array.from_buffers(pa.binary(), size, [None, pa.py_buffer(ends), pa.py_buffer(tokens)])
    keys = random.bytes(8 * size).hex()
    columns: Mapping[str, pa.Array] = {
        "order": pa.array([int(doc_id[16:], 16) for doc_id in ids], pa.uint64()),
        "doc_id": pa.array(ids),
        "tokens": blobs,
        "num_tokens": pa.array(lengths),
        "num_bytes": pa.array(4 * lengths),
        "source": pa.array(["made"] * size),
        "split_key": pa.array([keys[start : start + 16] for start in range(0, 16 * size, 16)]),
        "cluster": pa.nulls(size, pa.string()),
        "cluster_size": pa.nulls(size, pa.int64()),
        "metadata": pa.array([f'{{"number":{number}}}' for number in range(size)]),
        "text": pa.nulls(size, pa.string()),
        "url": pa.array([f"https://www.site{number % 7}.example/{number}" for number in range(size)]),
    }
    return pa.RecordBatch.from_arrays([columns[name] for name in TOKENS.names], schema=TOKENS)


def _encoded(store: Store, seed: int, batches: Sequence[pa.RecordBatch], tokenizer: Manifest) -> Manifest:
    inputs = [
        TaskInput(role="corpus", content=f"{seed:032x}{n:032x}", path="/none", size=0) for n in range(len(batches))
    ]
    stage, commits = Encode(), []
    planning = Planning(store, {"tokenizer": tokenizer})
    (made,) = planning.part_inputs("tokenizer")
    tasks = [stage.task([made, item]) for item in inputs]
    for task, batch in zip(tasks, batches, strict=True):
        counts = [int(batch.column(name).to_numpy().sum()) for name in ("num_tokens", "num_bytes")]
        file = write_table(store.new_file(task, "tokens"), TOKENS, [batch], {"task": task.key})
        tally = Tally(records=batch.num_rows, bytes=counts[1])
        ledger = Ledger(input=tally, kept=tally, output=tally)
        commits.append(
            Commit(task=task, files={"tokens": file}, ledger=ledger, facts={"tokens": counts[0], "token_bytes": 2})
        )
        store.commit(commits[-1])
    return publish(Planned("made encoded", stage, tuple(tasks), planning))


def _published(store: Store, stage: Stage, seed: int, files: Sequence[bytes]) -> Manifest:
    task = stage.task([TaskInput(role="corpus", content=f"{seed:064x}", path="/none", size=0)])
    made = {stage.table: store.put_file(task, stage.table, files[0], ".json")}
    store.commit(Commit(task=task, files=made, ledger=Ledger()))
    return publish(Planned("made tokenizer", stage, (task,), Planning(store, {})))
