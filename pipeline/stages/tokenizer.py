"""Tokenizer: a byte-level BPE trained on the corpus without its held-out part, or one that is given.

Training (Sennrich et al. 2016, on bytes as in GPT-2) is deterministic in the `tokenizers` library whatever the order of
texts and the number of threads. Where the corpus is larger than `max_bytes`, a share of the documents chosen by their
ids is read, so that the choice depends on contents alone.
"""

from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path
from typing import ClassVar

from headrace.pipeline.errors import InputError
from headrace.pipeline.schema import Ledger, StoredFile, Tally, Task, TaskInput
from headrace.pipeline.split import HELDOUT_UNIT, is_heldout
from headrace.pipeline.stages.contract import Made, Planning, Stage, input_paths, register
from headrace.pipeline.store import Store
from headrace.pipeline.tables import read_batches
from headrace.pipeline.vocabulary import END_OF_TEXT, Vocabulary

MIN_VOCABULARY = 257  # every byte, and the end of text


@register
class TrainTokenizer(Stage):
    """Trains a byte-level BPE of `vocab_size` ids on at most about `max_bytes` of text.

    `heldout` and `share`, which the plan works out from `max_bytes`, are documents in 10,000.
    """

    name: ClassVar[str] = "tokenizer"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "tokenizer"

    vocab_size: int = 32_768
    max_bytes: int = 1 << 30
    heldout: int = 100
    share: int = HELDOUT_UNIT

    def resources(self) -> dict[str, str]:
        """Return the library that trains."""
        return {"tokenizers": version("tokenizers")}

    def inputs(self) -> tuple[str, ...]:
        """Return the corpus."""
        return ("corpus",)

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task, over all parts; `share` in 10,000 documents are read."""
        total = planning.upstream["corpus"].ledger.output.bytes
        share = min(HELDOUT_UNIT, max(1, self.max_bytes * HELDOUT_UNIT // max(1, total)))
        return [self.task(planning.part_inputs("corpus"), share=share)]

    def run(self, task: Task, store: Store) -> Made:
        """Train and write `tokenizer.json`."""
        from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

        if self.vocab_size < MIN_VOCABULARY:
            raise InputError(f"vocab_size is {self.vocab_size}; a byte-level vocabulary needs {MIN_VOCABULARY} or more")
        counts: list[int] = []
        tokenizer = Tokenizer(models.BPE())
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
        tokenizer.decoder = decoders.ByteLevel()
        trainer = trainers.BpeTrainer(
            vocab_size=self.vocab_size,
            special_tokens=[END_OF_TEXT],
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        )
        tokenizer.train_from_iterator(self._texts(task, store, counts), trainer)
        file = store.put_file(task, self.table, tokenizer.to_str().encode(), ".json")
        read = Tally(records=len(counts), bytes=sum(counts))
        return Made({self.table: file}, Ledger(input=read, kept=read), {"vocab_size": tokenizer.get_vocab_size()})

    def _texts(self, task: Task, store: Store, counts: list[int]) -> Iterator[list[str]]:
        for path in input_paths(task, store, "corpus"):
            for batch in read_batches(path, ["doc_id", "text", "split_key", "text_bytes"]):
                chosen = [row for row in batch.to_pylist() if self._is_read(row["doc_id"], row["split_key"])]
                counts += [row["text_bytes"] for row in chosen]
                yield [row["text"] for row in chosen]

    def _is_read(self, doc_id: str, split_key: str) -> bool:
        return not is_heldout(split_key, self.heldout) and is_heldout(doc_id[16:], self.share)


@register
class GivenTokenizer(Stage):
    """Takes a `tokenizer.json` as it is into the store."""

    name: ClassVar[str] = "given_tokenizer"
    version: ClassVar[int] = 1
    table: ClassVar[str] = "tokenizer"

    def inputs(self) -> tuple[str, ...]:
        """Return nothing: the file comes with the raw files, as the source `tokenizer`."""
        return ()

    def plan(self, planning: Planning) -> list[Task]:
        """Return the one task."""
        (file,) = planning.files["tokenizer"]
        return [self.task([TaskInput(role="tokenizer", content=file.sha256, path=str(file.path), size=file.size)])]

    def run(self, task: Task, store: Store) -> Made:
        """Check the file and copy it."""
        source = Path(task.inputs[0].path)
        vocabulary = Vocabulary.load(source)
        file: StoredFile = store.put_file(task, self.table, source.read_bytes(), ".json")
        if file.sha256 != task.inputs[0].content:
            raise InputError(f"{source}: the file changed while the build ran; start it again")
        return Made({self.table: file}, Ledger(), {"vocab_size": vocabulary.size})
