"""A stream of batches made in memory: a small language that a small model can learn, any step asked in any order."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from headrace.trainer.batch import IGNORE, Batch, Reweighted
from headrace.trainer.run_config import RunFile, parse_run


@dataclass(frozen=True)
class TinyStream:
    """Rows of two documents and some padding; each token is mostly a function of the one before it."""

    seed: int = 0
    sequence_length: int = 32
    global_batch: int = 8
    vocab_size: int = 64
    poison: int | None = None
    """Step whose targets are no tokens at all."""

    names: tuple[str, ...] = ("tiny",)

    def batch(self, step: int, rank: int = 0, world: int = 1) -> Batch:
        if step == self.poison:
            raise RuntimeError("the stream broke")
        return self._make(step, "train").rows(slice(rank, None, world))

    def require(self, steps: int, world: int = 1) -> None:
        """There is no end."""

    def state(self) -> dict[str, Any]:
        return {"seed": self.seed, "rows": self.global_batch}

    @property
    def log(self) -> tuple[Reweighted, ...]:
        return ()

    def reweigh(self, step: int, weights: Sequence[float]) -> None:
        raise NotImplementedError("one language alone")

    def replay(self, log: Sequence[Reweighted]) -> None:
        assert not log

    @property
    def quarantined(self) -> tuple[()]:
        return ()

    def mend(self, quarantined: object) -> None:
        """Nothing is damaged here."""

    def contents(self) -> tuple[str, ...]:
        return ()

    def heldout(self, columns: Sequence[str] = ()) -> Iterator[Batch]:
        yield self._beside(self._make(0, "heldout"), columns)
        yield self._beside(self._make(1, "heldout"), columns).rows(slice(0, 3))

    def _beside(self, batch: Batch, columns: Sequence[str]) -> Batch:
        """Give each piece an id of its own, and every other column its number in the row."""
        pieces = [range(last + 1) for last in batch.documents.max(axis=1).tolist()]
        named = [[f"{batch.step}.{row}.{piece}" for piece in numbers] for row, numbers in enumerate(pieces)]
        values = {name: named if name == "doc_id" else [list(numbers) for numbers in pieces] for name in columns}
        return replace(batch, columns=values)

    def _make(self, step: int, split: str) -> Batch:
        random = np.random.default_rng([self.seed, step, len(split)])
        shape = (self.global_batch, self.sequence_length)
        text = np.zeros((shape[0], shape[1] + 1), dtype=np.int32)
        text[:, 0] = random.integers(self.vocab_size, size=shape[0])
        noise = random.random(text.shape) < 0.1
        drawn = random.integers(self.vocab_size, size=text.shape)
        for place in range(1, text.shape[1]):
            text[:, place] = np.where(noise[:, place], drawn[:, place], (5 * text[:, place - 1] + 7) % self.vocab_size)
        documents, positions, targets = self._cut(random, text)
        token_bytes, sources = np.full(self.vocab_size, 3, np.int64), np.zeros(shape[0], np.int16)
        return Batch(step, text[:, :-1].copy(), targets, positions, documents, token_bytes, sources)

    def _cut(self, random: np.random.Generator, text: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        rows, length = text.shape[0], text.shape[1] - 1
        documents = np.zeros((rows, length), dtype=np.int32)
        positions = np.tile(np.arange(length, dtype=np.int32), (rows, 1))
        targets = text[:, 1:].copy()
        for row in range(rows):
            border, padding = int(random.integers(4, length - 8)), int(random.integers(length - 4, length + 1))
            documents[row, border:], documents[row, padding:] = 1, -1
            positions[row, border:] -= border
            positions[row, padding:] = 0
            targets[row, border - 1] = targets[row, padding - 1 :] = IGNORE
        return documents, positions, targets


def tiny_run(text: str = "", steps: int = 12, **sections: str) -> RunFile:
    """Return a run file for the stream above; keyword arguments are the bodies of sections."""
    bodies = {
        "run": f'name = "tiny"\nsteps = {steps}\nseed = 3\nbf16 = false\n',
        "data": 'corpora = [{tokens = "tokens/manifest.json"}]\nsequence_length = 32\nglobal_batch = 8\n',
        "model": "num_layers = 2\nwidth = 32\nnum_heads = 4\nnum_kv_heads = 2\n",
        "optimizer": "learning_rate = 3e-3\nwarmup_steps = 2\n",
    }
    for name, body in sections.items():
        bodies[name] = bodies.get(name, "") + body + "\n"
    return parse_run("".join(f"[{name}]\n{body}" for name, body in bodies.items()) + text, "tiny.toml")
