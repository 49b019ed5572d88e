"""Generation: with a memory as without one, drawn as transformers draws, told in whole characters."""

import itertools
from typing import Any

import pytest
import torch
from transformers.generation import logits_process

from headrace.pipeline.errors import InputError
from headrace.trainer.attention.layouts import LAYOUTS
from headrace.trainer.attention.seen import Seen
from headrace.trainer.completion import Stops, TextStream, complete
from headrace.trainer.generate import Reader, generate
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.objectives.contract import Sight
from headrace.trainer.sampling import GREEDY, Sampling
from tests.small_vocabulary import make_vocabulary
from tests.test_variants import VARIANTS, config_of

VOCABULARY = make_vocabulary(280)
NOVEL = Sampling(temperature=0, repetition_penalty=3.0)
WARM = Sampling(temperature=0.9, top_k=20, top_p=0.9, repetition_penalty=1.3)


def model_of(name: str = "llama", scale: float = 0.1, vocab_size: int = 97) -> Transformer:
    """Return a model whose next token is seldom the one before it."""
    model = build_model(config_of(name).model_copy(update={"vocab_size": vocab_size}), seed=4).eval()
    with torch.no_grad():
        for number, parameter in enumerate(model.parameters()):
            parameter += scale * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(number))
    return model


def first(count: int, *arguments: Any, **options: Any) -> list[int]:
    return list(itertools.islice(generate(*arguments, **options), count))


def last_logits(model: Transformer, text: list[int], sight: Sight = "causal", prompt: int = 0) -> torch.Tensor:
    """Return the logits of the next token, of the whole text read at once."""
    visible = (torch.arange(len(text)) < prompt)[None] if sight == "prefix" else None
    seen = Seen.of(torch.zeros(1, len(text), dtype=torch.int32), sight, visible)
    with torch.no_grad():
        layout = LAYOUTS["mask"](seen, model.patterns)
        return model.logits(model(torch.tensor([text]), seen.positions, layout))[0, -1]


# --------------------------------------------------------------------------------------------------------- sampling


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [None, 1, 7, 500])
@pytest.mark.parametrize("top_p", [1.0, 0.95, 0.3, 1e-6])
@pytest.mark.parametrize("penalty", [1.0, 1.4, 0.5])
def test_scores_are_those_of_transformers(temperature: float, top_k: int | None, top_p: float, penalty: float) -> None:
    generator = torch.Generator().manual_seed(1)
    for scale in (0.1, 4.0):
        logits = (scale * torch.randn(200, generator=generator)).round(decimals=1)  # so that some are equal
        text = torch.randint(200, (30,), generator=generator)
        theirs: list[Any] = [
            logits_process.RepetitionPenaltyLogitsProcessor(penalty),
            logits_process.TemperatureLogitsWarper(temperature),
            *([logits_process.TopKLogitsWarper(top_k)] if top_k else []),
            *([logits_process.TopPLogitsWarper(top_p)] if top_p < 1 else []),
        ]
        expected = logits[None]
        for one in theirs:
            expected = one(text[None], expected)
        found = Sampling(temperature, top_k, top_p, penalty).scores(logits, text.tolist())
        assert torch.equal(found.isinf(), expected[0].isinf())
        torch.testing.assert_close(found.softmax(0), expected[0].softmax(0))


def test_draws_follow_the_scores_and_the_seed() -> None:
    logits, generator = torch.tensor([0.0, 1.0, 2.0, 3.0]), torch.Generator().manual_seed(0)
    drawn = [Sampling(top_k=2).draw(logits, (), generator) for _ in range(2000)]
    assert set(drawn) == {2, 3}
    assert drawn.count(3) / 2000 == pytest.approx(float(torch.tensor(1.0).sigmoid()), abs=0.04)
    again = torch.Generator().manual_seed(0)
    assert drawn == [Sampling(top_k=2).draw(logits, (), again) for _ in range(2000)]
    assert GREEDY.draw(logits, ()) == 3
    assert Sampling(temperature=0, repetition_penalty=2.0).draw(logits, [3]) == 2


@pytest.mark.parametrize(
    ("wrong", "told"),
    [
        ({"temperature": -0.1}, "temperature = -0.1 must be 0"),
        ({"temperature": float("nan")}, "temperature = nan"),
        ({"top_k": 0}, "top_k = 0 must be at least 1"),
        ({"top_p": 0.0}, "top_p = 0.0 must be above 0"),
        ({"top_p": 1.1}, "top_p = 1.1 must be above 0 and at most 1"),
        ({"repetition_penalty": 0.0}, "repetition_penalty = 0.0 must be above 0"),
    ],
)
def test_numbers_that_cannot_be_are_named(wrong: dict[str, Any], told: str) -> None:
    with pytest.raises(InputError, match=told):
        Sampling(**wrong)


# ------------------------------------------------------------------------------------------------------- generation


@pytest.mark.parametrize("name", VARIANTS)
def test_what_is_remembered_changes_nothing(name: str) -> None:
    model = model_of(name)
    text = [5, 96, 12, 33, 7]
    drawn = first(15, Reader(model), text, NOVEL)
    for token in drawn:
        scores = NOVEL.scores(last_logits(model, text), text)
        assert float(scores[token]) >= float(scores.max()) - 1e-4
        text.append(token)
    assert len(set(drawn)) > 2


def test_sampled_text_is_what_reading_it_all_again_gives() -> None:
    model, text = model_of(), [5, 96, 12]
    drawn = first(40, Reader(model), text, WARM, torch.Generator().manual_seed(3))
    random = torch.Generator().manual_seed(3)
    for token in drawn:
        assert WARM.draw(last_logits(model, text), text, random) == token
        text.append(token)


def test_a_prompt_is_seen_from_both_sides_where_the_objective_says_so() -> None:
    model, text = model_of(), [5, 96, 12, 40, 41, 42]
    drawn = first(10, Reader(model, "prefix"), text, GREEDY)
    for token in drawn:
        assert int(last_logits(model, text, "prefix", 6).argmax()) == token
        text.append(token)
    assert drawn != first(10, Reader(model), text[:6], GREEDY)
    with pytest.raises(InputError, match="fills in masks"):
        Reader(model, "bidirectional")


def test_a_text_that_outgrows_the_context_goes_on_from_its_later_half() -> None:
    model, context, text = model_of(), 8, list(range(20, 32))
    drawn = first(20, Reader(model), text, GREEDY, context=context)
    begin = 4  # of twelve tokens the last eight are read
    for token in drawn:
        assert int(last_logits(model, text[begin:]).argmax()) == token
        text.append(token)
        if len(text) - begin > context:
            begin = len(text) - context // 2
    state = model_of("linear")
    text = list(range(20, 32))
    for token in first(20, Reader(state), text, GREEDY, context=context):  # a state has no limit
        assert int(last_logits(state, text).argmax()) == token
        text.append(token)
    for wrong, told in (({"context": 1}, "context = 1"), ({"prompt": []}, "at least one token")):
        with pytest.raises(InputError, match=told):
            first(1, **{"reader": Reader(model), "prompt": [1], "sampling": GREEDY, **wrong})


def test_a_condition_is_asked_of_a_model_that_has_some() -> None:
    model = model_of("conditional")
    logits = [Reader(model, condition=number).read([5, 6]) for number in (None, 0, 1, 2)]
    assert torch.equal(logits[0], logits[1])
    assert min(float((one - two).abs().max()) for one, two in itertools.combinations(logits[1:], 2)) > 0.01
    with pytest.raises(InputError, match="condition = 3: the model has the conditions 0 to 2"):
        Reader(model, condition=3)
    with pytest.raises(InputError, match="condition = 0: the model has no conditions"):
        Reader(model_of(), condition=0)


# ------------------------------------------------------------------------------------------------------------- text


TEXT = "naïve 東京 🙂\n\N{REPLACEMENT CHARACTER} and 🏳️‍🌈 more"


def test_text_comes_in_whole_characters() -> None:
    ids = VOCABULARY.encode_batch([TEXT])[0].tolist()
    stream = TextStream(VOCABULARY)
    told = [stream.add(token) for token in ids]
    assert "".join(told) + stream.end() == TEXT
    assert sum(not text for text in told) > 10  # parts of characters
    assert all(TEXT.startswith("".join(told[:count])) for count in range(len(told)))
    half = TextStream(VOCABULARY)
    begun = [half.add(token) for token in VOCABULARY.encode_batch(["é"])[0].tolist()[:1]]
    assert begun == [""]
    assert half.end() == "\N{REPLACEMENT CHARACTER}"
    assert half.add(VOCABULARY.size + 3) == ""


@pytest.mark.parametrize("size", [1, 2, 3, 100])
def test_nothing_of_a_stop_string_is_told(size: int) -> None:
    def told(text: str, *stops: str) -> tuple[str, str | None]:
        watch, parts = Stops(stops), []
        for begin in range(0, len(text), size):
            parts.append(watch.add(text[begin : begin + size]))
            assert not any(stop in "".join(parts) for stop in stops)
            if watch.found:
                break
        return "".join(parts) + watch.end(), watch.found

    assert told("one two END three", "END") == ("one two ", "END")
    assert told("one two EN", "END") == ("one two EN", None)
    assert told("aaab", "aab") == ("a", "aab")
    assert told("plain") == ("plain", None)


def completed(text_sampling: Sampling = WARM, **options: Any) -> Any:
    model = model_of(vocab_size=VOCABULARY.size, scale=0.3)
    given = {"seed": 5, "context": 64, **options}
    count = given.pop("max_tokens", 30)
    return complete(Reader(model), VOCABULARY, given.pop("prompt", "the dog"), count, text_sampling, **given)


def test_a_completion_is_told_as_it_is_returned() -> None:
    parts: list[str] = []
    found = completed(on_text=parts.append)
    assert "".join(parts) == found.text
    assert found.text == VOCABULARY.decode(list(found.tokens))
    assert len(parts) > 5
    assert (len(found.tokens), found.ended_by, found.prompt_cut) == (30, "max tokens", 0)
    assert found == completed()
    assert found != completed(seed=6)
    assert completed(prompt="").prompt_tokens == 1


def test_a_completion_ends_where_it_should() -> None:
    whole = completed().text
    stop = whole[10:13]
    stopped = completed(stops=[stop])
    assert (stopped.text, stopped.ended_by) == (whole[: whole.index(stop)], "stop string")
    assert len(stopped.tokens) < 30
    for seed in range(40):
        ended = completed(Sampling(temperature=3.0), seed=seed, max_tokens=60)
        if ended.ended_by == "end of text":
            assert ended.tokens[-1] == VOCABULARY.end_of_text
            assert len(ended.tokens) < 60
            break
    else:
        pytest.fail("no text ended")
    assert completed(context=4).prompt_cut == completed().prompt_tokens - 4
    with pytest.raises(InputError, match="max_tokens = 0"):
        completed(max_tokens=0)
    with pytest.raises(InputError, match="at least one character"):
        completed(stops=[""])
