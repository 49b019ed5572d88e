"""Scoring: what a model gives is the same alone and in company, and is what the definitions say."""

import math
from dataclasses import dataclass
from itertools import islice
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.errors import InputError
from headrace.trainer.batch import Batch
from headrace.trainer.evaluation.masks import find_mask
from headrace.trainer.evaluation.requests import Encoder
from headrace.trainer.evaluation.scorer import Scorer, make_scorer
from headrace.trainer.generate import Reader, generate
from headrace.trainer.model import Transformer, logits_of
from headrace.trainer.objectives.causal import Causal
from headrace.trainer.objectives.contract import Question
from headrace.trainer.sampling import Sampling
from tests.making import article
from tests.small_model import LENGTH, model, scorer, vocabulary

VARIANTS: dict[str, dict[str, Any]] = {
    "full": {},
    "grouped": {"num_kv_heads": 2},
    "sliding": {"attention": "sliding", "window": 8},
    "linear": {"attention": "linear"},
    "experts": {"num_experts": 4},
    "capped": {"logit_softcap": 5.0, "tie_embeddings": False},
}
PAIRS = [
    ("the water of", " the river"),
    ("", "Which of them?"),
    ("one of the", " mill"),
    ("one of the", " wheel"),
    ("In the long history of language. ", "they said"),
    ("a", "b"),
    ("the", "é日本 it was"),
    ("how many people " * 9, "look for it"),
]


def plainly(made: Transformer, context: tuple[int, ...], continuation: tuple[int, ...]) -> tuple[float, bool]:
    """Return a log-likelihood as its definition has it, one token after the other."""
    total, greedy = 0.0, True
    for place, token in enumerate(continuation):
        seen = torch.tensor([[*context, *continuation[:place]][-LENGTH:]])
        positions = torch.arange(seen.shape[1])[None]
        with torch.no_grad():
            logits = logits_of(made, seen, positions, torch.zeros_like(seen), "mask")[0, -1]
        total += float(torch.log_softmax(logits.double(), dim=-1)[token])
        greedy = greedy and int(logits.argmax()) == token
    return total, greedy


# ----------------------------------------------------------------------------------------------------- log-likelihoods


@pytest.mark.parametrize("name", VARIANTS)
def test_in_company_is_as_alone(name: str) -> None:
    asked = scorer(**VARIANTS[name])
    together = asked.likelihoods(PAIRS)
    for pair, found in zip(PAIRS, together, strict=True):
        (alone,) = asked.likelihoods([pair])
        assert found.total == pytest.approx(alone.total, rel=1e-5)
        assert found[1:] == alone[1:]


def test_a_likelihood_is_the_sum_of_its_tokens() -> None:
    asked = scorer()
    for pair, found in zip(asked.encoder.pairs(PAIRS[:-1]), asked.likelihoods(PAIRS[:-1]), strict=True):
        total, greedy = plainly(asked.model, *pair)
        assert found.total == pytest.approx(total, rel=1e-5)
        assert (found.num_tokens, found.is_greedy) == (len(pair.continuation), greedy)


def test_what_the_model_would_say_is_greedy() -> None:
    asked = scorer()
    (said,) = asked.generate(["the water of"], [], 1)
    (found, other) = asked.likelihoods([("the water of", said), ("the water of", "Z")])
    assert found.is_greedy
    assert not other.is_greedy
    assert found.total > other.total


def test_equal_rows_are_computed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, computed = scorer(), []
    features = Scorer._features
    monkeypatch.setattr(Scorer, "_features", lambda self, batch: computed.extend(batch) or features(self, batch))
    asked.likelihoods([("It was", " a"), ("It was", " b"), ("It was", " a")])
    assert len(computed) == 1


def test_float32_heads_keep_bfloat16_near() -> None:
    exact, rough = scorer(), scorer()
    rough.bf16 = True
    for one, two in zip(exact.likelihoods(PAIRS), rough.likelihoods(PAIRS), strict=True):
        assert one.total == pytest.approx(two.total, rel=0.05)


# ------------------------------------------------------------------------------------------------------------ encoding


def test_what_does_not_fit_is_cut_on_the_left_and_counted() -> None:
    asked = scorer(length=16)
    context = article(1)
    short, long = asked.likelihoods([("It", " was"), (context, " was")])
    assert asked.encoder.num_cut == 1
    ((line, continuation),) = asked.encoder.pairs([(context, " was")])
    total, _ = plainly(asked.model, line[-16 + len(continuation) - 1 :], continuation)
    assert long.total == pytest.approx(total, rel=1e-5)
    assert short.total == pytest.approx(asked.likelihoods([("It", " was")])[0].total, rel=1e-5)
    assert asked.encoder.num_cut == 1


@pytest.mark.parametrize(
    ("pair", "said"),
    [(("It was", ""), "nothing is to be predicted"), (("", article(2)), "the model reads 16")],
)
def test_what_cannot_be_asked_is_refused(pair: tuple[str, str], said: str) -> None:
    with pytest.raises(InputError, match=said):
        scorer(length=16).likelihoods([pair])


@given(st.text(max_size=30), st.text(min_size=1, max_size=12))
def test_pairs_are_cut_as_the_harness_cuts_them(context: str, continuation: str) -> None:
    encoder = Encoder(vocabulary(), LENGTH)
    ((before, after),) = encoder.pairs([(context, continuation)])
    kept = context.rstrip()
    head, whole = encoder.encode([kept, context + continuation])
    assert (*before[1:], *after) == whole
    assert before[0] == vocabulary().end_of_text
    if whole[: len(head)] == head and len(whole) > len(head):
        assert after == whole[len(head) :]


def test_pairs_and_windows_are_those_of_the_harness() -> None:
    harness = pytest.importorskip("lm_eval.utils", reason="lm_eval is not installed (extra harness)")
    tokens = vocabulary().tokenizer.encode(article(3)).ids
    for length in (1, 7, 16, len(tokens), len(tokens) + 1):
        encoder = Encoder(vocabulary(), length)
        windows = harness.get_rolling_token_windows(tokens, vocabulary().end_of_text, length, 1)
        found = [(list(asked.inputs), list(asked.targets)) for asked in encoder.rolling(tokens)]
        assert found == [(list(inputs), list(predicted)) for inputs, predicted in windows]


def test_a_text_is_scored_whole_however_long_it_is() -> None:
    asked, text = scorer(length=16), article(4)
    (found,) = asked.rolling([text])
    tokens = vocabulary().tokenizer.encode(text).ids
    assert found.num_tokens == len(tokens)
    first = (vocabulary().end_of_text,)
    total = plainly(asked.model, first, tuple(tokens[:16]))[0]
    for begin in range(16, len(tokens), 16):
        end = min(begin + 16, len(tokens))
        context = (*first, *tokens)[max(0, end - 16) : begin + 1]
        total += plainly(asked.model, context, tuple(tokens[begin:end]))[0]
    assert found.total == pytest.approx(total, rel=1e-5)
    assert asked.rolling([""])[0].total == 0


# ---------------------------------------------------------------------------------------------------------- generation


@pytest.mark.parametrize("name", VARIANTS)
def test_generation_is_greedy(name: str) -> None:
    asked, prompts = scorer(**VARIANTS[name]), ["the water of", "It was", "In the", "One of", ""]
    for prompt, text in zip(prompts, asked.generate(prompts, [], 12), strict=True):
        line = [vocabulary().end_of_text, *vocabulary().tokenizer.encode(prompt).ids]
        tokens = list(islice(generate(Reader(asked.model), line, Sampling(temperature=0)), 12))
        if vocabulary().end_of_text in tokens:
            tokens = tokens[: tokens.index(vocabulary().end_of_text)]
        assert text == vocabulary().decode(tokens)


def test_generation_ends_where_it_is_told_to() -> None:
    asked = scorer()
    (text,) = asked.generate(["the water of"], [], 20)
    stop = text[3:5]
    (cut,) = asked.generate(["the water of"], ["no such", stop], 20)
    assert cut == text[: text.index(stop)]
    asked.generate([article(1)], [], 20)
    assert asked.encoder.num_cut == 1
    with pytest.raises(InputError, match="the model reads 48"):
        asked.generate(["It"], [], 48)


# --------------------------------------------------------------------------------------------------------------- masks


@dataclass(frozen=True)
class Masked:
    """Hides a fifth of the tokens, some behind the sign and some behind another token."""

    sight: Any = "bidirectional"
    second_sign: bool = False
    shift: int = 0
    name: ClassVar[str] = "masked"
    version: ClassVar[int] = 1

    @property
    def num_signs(self) -> int:
        return 1 + self.second_sign

    def ask(self, batch: Batch, seed: int) -> Question:
        random, size = np.random.default_rng(seed), len(batch.token_bytes)
        hidden = random.random(batch.tokens.shape) < 0.2
        signs = size + random.integers(1 + self.second_sign, size=hidden.shape)
        inputs = np.where(hidden & (random.random(hidden.shape) < 0.8), signs, batch.tokens).astype(np.int32)
        targets = np.roll(batch.tokens, self.shift, axis=1)
        return Question(inputs, targets, hidden.astype(np.float32), batch.positions, batch.documents)


def some_batch() -> Batch:
    """Return rows of one document each."""
    size = vocabulary().size
    line = np.random.default_rng(0).integers(size, size=(4, LENGTH + 1)).astype(np.int32)
    positions = np.tile(np.arange(LENGTH, dtype=np.int32), (4, 1))
    token_bytes, sources = np.ones(size, np.int64), np.zeros(4, np.int16)
    return Batch(0, line[:, :-1].copy(), line[:, 1:].copy(), positions, np.zeros_like(positions), token_bytes, sources)


def test_a_pseudo_likelihood_hides_one_token_after_the_other() -> None:
    made = model(num_signs=1)
    asked = make_scorer(made, vocabulary(), LENGTH, Masked(), example=some_batch())
    assert asked.mask == vocabulary().size
    pairs = PAIRS[:4]
    for (context, continuation), found in zip(asked.encoder.pairs(pairs), asked.likelihoods(pairs), strict=True):
        line, total = (*context, *continuation), 0.0
        for place in range(len(context), len(line)):
            hidden = torch.tensor([[*line[:place], vocabulary().size, *line[place + 1 :]]])
            total += _filled(made, hidden, place, line[place])
        assert found.total == pytest.approx(total, rel=1e-5)
        assert found.num_tokens == len(continuation)
    asked.likelihoods([(article(1), " was")])
    assert asked.encoder.num_cut == 1


def _filled(made: Transformer, line: torch.Tensor, place: int, token: int) -> float:
    from headrace.trainer.attention.layouts import LAYOUTS
    from headrace.trainer.attention.seen import Seen

    layout = LAYOUTS["mask"](Seen.of(torch.zeros_like(line), "bidirectional"), made.patterns)
    with torch.no_grad():
        logits = made.logits(made(line, torch.arange(line.shape[1])[None], layout))[0, place]
    return float(torch.log_softmax(logits.double(), dim=-1)[token])


def test_models_without_likelihoods_are_refused_by_name() -> None:
    given = model(num_signs=1), vocabulary(), LENGTH
    with pytest.raises(InputError, match=r"trained by 'masked' looks ahead.*--pseudo"):
        make_scorer(*given, Masked())
    with pytest.raises(InputError, match=r"trained by 'masked' looks ahead.*train a causal one"):
        make_scorer(*given, Masked("prefix"))
    with pytest.raises(InputError, match="'causal' gives likelihoods"):
        make_scorer(*given, Causal(), example=some_batch())
    for objective in (Masked(second_sign=True), Masked(shift=1), Masked("prefix")):
        with pytest.raises(InputError, match="'masked' does not hide tokens in their places by one sign"):
            find_mask(objective, some_batch())
    asked = make_scorer(*given, Masked(), example=some_batch())
    with pytest.raises(InputError, match="generation needs a causal model"):
        asked.generate(["It"], [], 4)
    with pytest.raises(InputError, match="whole texts needs a causal model"):
        asked.rolling(["It"])
    assert math.isfinite(make_scorer(*given, Causal()).likelihoods([("It", " was")])[0].total)
