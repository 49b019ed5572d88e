"""A model that answers requests: log-likelihoods of continuations and texts, and greedy continuations.

Rows are sorted by length and computed together, equal ones once; padding behind a row is seen by no position of it
(it comes later, or is a piece of its own), so a row has the value that it has alone, up to the rounding of sums. The
last product, with the head, is in float32 whatever the rest is in.

A model that was trained to fill in masks has no likelihood of a text. Where it is asked for, it has the
pseudo-log-likelihood instead (Salazar et al. 2020): the sum over tokens of the log-probability of each, itself masked,
given all the others.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from headrace.pipeline.errors import InputError
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.attention.layouts import LAYOUTS, Layout, PieceLayout, choose_layout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.batch import Batch
from headrace.trainer.device import autocast
from headrace.trainer.evaluation.masks import find_mask
from headrace.trainer.evaluation.requests import Asked, Encoder, Pair
from headrace.trainer.loss import CHUNK_LOGITS
from headrace.trainer.model import Transformer
from headrace.trainer.objectives.contract import Objective

BATCH_TOKENS = 1 << 13


class Likelihood(NamedTuple):
    """Of a continuation: log-likelihood in nats, its tokens, and whether each is the model's likeliest."""

    total: float
    num_tokens: int
    is_greedy: bool


@dataclass
class Scorer:
    """Answers requests; make one with `make_scorer`.

    Attributes:
        mask: the sign that hides a token, of models that fill in masks.
        batch_tokens: tokens that are computed together, at most.
    """

    model: Transformer
    encoder: Encoder
    bf16: bool = False
    mask: int | None = None
    batch_tokens: int = BATCH_TOKENS
    device: torch.device = field(init=False)

    def __post_init__(self) -> None:
        self.device = self.model.embedding.weight.device
        self.model.eval()

    def likelihoods(self, pairs: Sequence[tuple[str, str]]) -> list[Likelihood]:
        """Return the log-likelihood of each continuation after its context.

        Raises:
            InputError: a continuation is empty, or longer than the model reads.
        """
        return self._summed([self._ask(pair) for pair in self.encoder.pairs(pairs)])

    def rolling(self, texts: Sequence[str]) -> list[Likelihood]:
        """Return the log-likelihood of each text, all of it, however long it is.

        Raises:
            InputError: the model fills in masks; long texts have no pseudo-log-likelihood.
        """
        self._require_causal("log-likelihoods of whole texts")
        return self._summed([list(self.encoder.rolling(tokens)) for tokens in self.encoder.encode(texts)])

    def _ask(self, pair: Pair) -> list[Asked]:
        if self.mask is None:
            return [self.encoder.following(pair)]
        text = self.encoder.fitting((*pair.context, *pair.continuation), len(pair.continuation))
        places = range(len(text) - len(pair.continuation), len(text))
        return [Asked((*text[:place], self.mask, *text[place + 1 :]), (place,), (text[place],)) for place in places]

    def _summed(self, groups: Sequence[Sequence[Asked]]) -> list[Likelihood]:
        """Return for each group of rows the sum of what they give."""
        answers = iter(self.score([asked for group in groups for asked in group]))
        found = []
        for group in groups:
            mine = [next(answers) for _ in group]
            total, tokens = sum(one.total for one in mine), sum(one.num_tokens for one in mine)
            found.append(Likelihood(total, tokens, all(one.is_greedy for one in mine)))
        return found

    @torch.no_grad()
    def score(self, rows: Sequence[Asked]) -> list[Likelihood]:
        """Return for each row the log-likelihood of its targets."""
        asking: dict[tuple[int, ...], list[int]] = {}
        for number, asked in enumerate(rows):
            asking.setdefault(asked.inputs, []).append(number)
        found: dict[int, Likelihood] = {}
        for batch in self._batches(sorted(asking, key=lambda inputs: (-len(inputs), inputs))):
            numbers = [(line, number) for line, inputs in enumerate(batch) for number in asking[inputs]]
            found |= self._score_batch(batch, [(line, number, rows[number]) for line, number in numbers])
        return [found[number] for number in range(len(rows))]

    def _batches(self, lines: Sequence[tuple[int, ...]]) -> Iterator[list[tuple[int, ...]]]:
        """Yield lines, longest first, as many together as may be computed."""
        begin = 0
        while begin < len(lines):
            count = max(1, self.batch_tokens // max(1, len(lines[begin])))
            yield list(lines[begin : begin + count])
            begin += count

    def _score_batch(
        self, batch: Sequence[tuple[int, ...]], asked: Sequence[tuple[int, int, Asked]]
    ) -> dict[int, Likelihood]:
        features = self._features(batch)
        lines = torch.tensor([line for line, _, row in asked for _ in row.places], device=self.device)
        places = torch.tensor([place for _, _, row in asked for place in row.places], device=self.device)
        targets = torch.tensor([target for _, _, row in asked for target in row.targets], device=self.device)
        values, best = self._log_probabilities(features[lines, places], targets)
        found, begin = {}, 0
        for _, number, row in asked:
            part = slice(begin, begin := begin + len(row.places))
            found[number] = Likelihood(float(values[part].sum()), len(row.places), bool(best[part].all()))
        return found

    def _features(self, batch: Sequence[tuple[int, ...]]) -> Tensor:
        """Return the features of lines of tokens, padded to the longest, (lines, T, C)."""
        length = max(map(len, batch))
        tokens = torch.tensor([[*line, *[0] * (length - len(line))] for line in batch], device=self.device)
        layout = self._causal_layout(tokens) if self.mask is None else self._open_layout(tokens, batch)
        with autocast(self.device, self.bf16):
            features: Tensor = self.model(tokens, layout.seen.positions, layout)
        return features.float()

    def _causal_layout(self, tokens: Tensor) -> Layout:
        """Return rows of one piece each, which need no mask."""
        return PieceLayout.of(Seen.of(torch.zeros_like(tokens)), self.model.patterns)

    def _open_layout(self, tokens: Tensor, batch: Sequence[tuple[int, ...]]) -> Layout:
        """Return rows whose padding is told apart, as every position sees all of its piece."""
        ends = torch.tensor([len(line) for line in batch], device=self.device)
        places = torch.arange(tokens.shape[1], device=self.device)
        seen = Seen.of(torch.where(places < ends[:, None], 0, -1), "bidirectional")
        return LAYOUTS[choose_layout(self.device, compiled=False)](seen, self.model.patterns)

    def _log_probabilities(self, features: Tensor, targets: Tensor) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """Return of each target its log-probability, and whether none has a higher one."""
        step = max(1, CHUNK_LOGITS // self.model.config.vocab_size)
        values, best = [], []
        for some, wanted in zip(torch.split(features, step), torch.split(targets, step), strict=True):
            logits = self.model.logits(some)
            values.append((logits.gather(1, wanted[:, None])[:, 0] - logits.logsumexp(dim=-1)).double().cpu())
            best.append((logits.argmax(dim=-1) == wanted).cpu())
        return torch.cat(values).numpy(), torch.cat(best).numpy()

    def generate(self, prompts: Sequence[str], until: Sequence[str], max_tokens: int) -> list[str]:
        """Return what follows each prompt greedily, up to a stop string, the end of the text, or so many tokens.

        A prompt keeps as many tokens as leave room for what is generated.

        Raises:
            InputError: there is no room for a prompt beside so many tokens, or the model fills in masks.
        """
        self._require_causal("generation")
        lines = [self.encoder.before(tokens, max_tokens) for tokens in self.encoder.encode(prompts)]
        asking: dict[tuple[int, ...], list[int]] = {}
        for number, line in enumerate(lines):
            asking.setdefault(line, []).append(number)
        texts = [""] * len(prompts)
        for batch in self._equally_long(sorted(asking, key=lambda line: (len(line), line)), max_tokens):
            for line, text in zip(batch, self._generate(batch, until, max_tokens), strict=True):
                for number in asking[line]:
                    texts[number] = text
        return texts

    def _equally_long(self, lines: Sequence[tuple[int, ...]], more: int) -> Iterator[list[tuple[int, ...]]]:
        """Yield lines of one length, as many together as may be computed with so many tokens more."""
        by_length: dict[int, list[tuple[int, ...]]] = {}
        for line in lines:
            by_length.setdefault(len(line), []).append(line)
        for length, group in by_length.items():
            count = max(1, self.batch_tokens // (length + more))
            yield from (group[begin : begin + count] for begin in range(0, len(group), count))

    @torch.no_grad()
    def _generate(self, lines: Sequence[tuple[int, ...]], until: Sequence[str], max_tokens: int) -> list[str]:
        """Return what follows lines of equally many tokens; what layers remember of them is kept."""
        memories: list[dict[str, object]] = [{} for _ in self.model.blocks]
        new, begin = torch.tensor(lines, device=self.device), 0
        made: list[list[int]] = [[] for _ in lines]
        texts: list[str | None] = [None] * len(lines)
        for _ in range(max_tokens):
            positions = torch.arange(begin, begin + new.shape[1], device=self.device).expand(new.shape)
            with autocast(self.device, self.bf16):
                features = self.model(new, positions, self._causal_layout(new), memories=memories)
            begin += new.shape[1]
            new = self.model.logits(features[:, -1].float()).argmax(dim=-1, keepdim=True)
            for row, token in enumerate(new[:, 0].tolist()):
                made[row].append(token)
                texts[row] = self._ended(made[row], until) if texts[row] is None else texts[row]
            if None not in texts:
                break
        return [self._decode(ids) if text is None else text for ids, text in zip(made, texts, strict=True)]

    def _ended(self, tokens: list[int], until: Sequence[str]) -> str | None:
        """Return the text of tokens before what ends it; None if nothing does."""
        text = self._decode(tokens)
        ends = [text.find(stop) for stop in until if stop in text]
        if ends:
            return text[: min(ends)]
        return text if tokens[-1] == self.encoder.vocabulary.end_of_text else None

    def _decode(self, tokens: list[int]) -> str:
        """Return the text of tokens; signs beyond the vocabulary are no text."""
        vocabulary = self.encoder.vocabulary
        return vocabulary.decode([token for token in tokens if token < vocabulary.size])

    def _require_causal(self, what: str) -> None:
        if self.mask is not None:
            raise InputError(f"{what} needs a causal model, and this one fills in masks")


def make_scorer(
    model: Transformer,
    vocabulary: Vocabulary,
    sequence_length: int,
    objective: Objective,
    *,
    bf16: bool = False,
    example: Batch | None = None,
) -> Scorer:
    """Return what scores with a model.

    Args:
        model: On the device where it is to compute.
        vocabulary: Of the tokenizer that it was trained with.
        sequence_length: What it was trained with.
        objective: What it was trained by.
        bf16: Compute products in bfloat16.
        example: A batch of what it was trained on; where one is given, a model that fills in masks is scored by
            pseudo-log-likelihood.

    Raises:
        InputError: the objective gives no likelihoods; the message names it.
    """
    encoder = Encoder(vocabulary, sequence_length)
    if objective.sight == "causal":
        if example is not None:
            raise InputError(f"the objective {objective.name!r} gives likelihoods; leave out the pseudo-log-likelihood")
        return Scorer(model, encoder, bf16)
    if example is None:
        bidirectional = objective.sight == "bidirectional"
        how = "ask for the pseudo-log-likelihood (--pseudo)" if bidirectional else "train a causal one"
        raise InputError(f"a model trained by {objective.name!r} looks ahead, so texts have no likelihood; {how}")
    return Scorer(model, encoder, bf16, find_mask(objective, example))
