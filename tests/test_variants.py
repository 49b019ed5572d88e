"""Variants of the model: attention against a dense float64 reference, options that train, counts, experts, the loss."""

import math
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from headrace.pipeline.errors import RecipeError
from headrace.trainer.attention.contract import ATTENTIONS
from headrace.trainer.attention.delta_rule import delta_rule, delta_rule_by_token
from headrace.trainer.attention.layouts import LAYOUTS
from headrace.trainer.attention.patterns import EVERYTHING, Blocks, Pattern, Window
from headrace.trainer.attention.seen import Seen
from headrace.trainer.batch import IGNORE
from headrace.trainer.experts import Experts
from headrace.trainer.flops import count_parameters, flops_per_token
from headrace.trainer.learner import Learner
from headrace.trainer.linear import StandardizedLinear
from headrace.trainer.loss import weighted_nll
from headrace.trainer.model import Transformer, build_model
from headrace.trainer.model_config import ModelConfig
from headrace.trainer.norms import ConditionalNorm, Conditions, make_norm
from headrace.trainer.objectives.contract import Sight
from headrace.trainer.parallel import World
from headrace.trainer.run_config import parse_run
from tests.tiny_stream import TinyStream, tiny_run

SHAPE: dict[str, Any] = {
    "vocab_size": 97, "num_layers": 4, "width": 48, "num_heads": 4, "num_kv_heads": 2, "ffn_width": 64,
}  # fmt: skip
VARIANTS: dict[str, dict[str, Any]] = {
    "llama": {},
    "layer norm": {"norm": "layer"},
    "conditional": {"num_conditions": 3},
    "gelu": {"activation": "gelu"},
    "relu2, deep": {"activation": "relu2", "ffn_depth": 2},
    "swiglu, deep": {"ffn_depth": 3},
    "parallel": {"parallel": True},
    "qk norm": {"qk_norm": True},
    "soft-cap": {"logit_softcap": 5.0},
    "standardized": {"standardize_weights": True},
    "unet": {"residual": "unet"},
    "attention residual": {"residual": "attention"},
    "attention residual, parallel": {"residual": "attention", "parallel": True},
    "value residual": {"value_residual": True},
    "untied": {"tie_embeddings": False},
    "sliding": {"attention": "sliding", "window": 4, "global_every": 2},
    "block sparse": {"attention": "block_sparse", "block_size": 4, "local_blocks": 2, "block_stride": 3},
    "linear": {"attention": "linear"},
    "experts": {"num_experts": 4, "experts_per_token": 2, "shared_expert": True},
    "experts by bias": {"num_experts": 4, "experts_per_token": 1, "balance": "bias"},
}


def config_of(name: str) -> ModelConfig:
    return ModelConfig(**SHAPE, **VARIANTS[name])


def seen_of(sight: Sight, rows: int = 3, length: int = 40, seed: int = 0) -> Seen:
    random = np.random.default_rng(seed)
    documents, visible = np.zeros((rows, length), np.int32), np.zeros((rows, length), bool)
    for row in range(rows):
        borders = [0, *sorted(random.choice(np.arange(1, length), size=row, replace=False)), length]
        for number, (begin, end) in enumerate(pairwise(borders)):
            documents[row, begin:end] = number
            visible[row, begin : begin + int(random.integers(0, end - begin + 1))] = True
    documents[-1, -3:] = -1
    visible_of = torch.from_numpy(visible) if sight == "prefix" else None
    return Seen.of(torch.from_numpy(documents), sight, visible_of)


def dense_reference(q: Tensor, k: Tensor, v: Tensor, seen: Seen, pattern: Pattern) -> Tensor:
    """Softmax attention written out in float64, one query at a time."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(v)
    rows, heads, length, width = q.shape
    for row in range(rows):
        for query in range(length):
            keys = [key for key in range(length) if looks_at(seen, pattern, row, query, key)]
            for head in range(heads):
                scores = k[row, head, keys] @ q[row, head, query] / math.sqrt(width)
                out[row, head, query] = torch.softmax(scores, dim=0) @ v[row, head, keys]
    return out


def looks_at(seen: Seen, pattern: Pattern, row: int, query: int, key: int) -> bool:
    documents = seen.documents[row].tolist()
    if documents[query] != documents[key]:
        return False
    begin = documents.index(documents[query])
    ahead = key > query
    if ahead and seen.sight == "causal":
        return False
    if ahead and seen.sight == "prefix" and (seen.visible is None or not bool(seen.visible[row, key])):
        return False
    match pattern:
        case Window(size):
            return abs(query - key) < size
        case Blocks(size, local, stride):
            mine, other = (query - begin) // size, (key - begin) // size
            return abs(mine - other) < local or other % stride == 0
    return True


@pytest.mark.parametrize("sight", ["causal", "bidirectional", "prefix"])
@pytest.mark.parametrize("pattern", [EVERYTHING, Window(5), Blocks(3, 2, 4)], ids=["everything", "window", "blocks"])
@pytest.mark.parametrize("name", LAYOUTS)
@pytest.mark.filterwarnings("ignore:.*flex_attention.*")  # it warns that it is not compiled, which is meant here
def test_every_way_of_attending_is_the_dense_reference(name: str, pattern: Pattern, sight: Sight) -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(3, 2, 40, 8, generator=generator) for _ in range(3))
    for seen in (seen_of(sight), Seen.of(torch.zeros(3, 40, dtype=torch.int32), sight, seen_of(sight).visible)):
        with torch.no_grad():
            actual = LAYOUTS[name](seen, {"it": pattern}).attend(q, k, v, "it")
        torch.testing.assert_close(actual.double(), dense_reference(q, k, v, seen, pattern), rtol=1e-4, atol=1e-5)


def test_a_window_of_long_pieces_is_tiled() -> None:
    generator = torch.Generator().manual_seed(1)
    q, k, v = (torch.randn(1, 2, 300, 8, generator=generator) for _ in range(3))
    for sight in ("causal", "bidirectional"):
        seen = Seen.of(torch.tensor([[0] * 200 + [1] * 100]), sight)
        one, two = (LAYOUTS[name](seen, {"it": Window(30)}).attend(q, k, v, "it") for name in ("pieces", "mask"))
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


def delta_inputs(length: int, dtype: torch.dtype = torch.float32) -> list[Tensor]:
    generator = torch.Generator().manual_seed(length)
    q, k, v = (torch.randn(2, 3, length, 8, generator=generator, dtype=dtype) for _ in range(3))
    fade, rate = (torch.randn(2, 3, length, generator=generator, dtype=dtype) for _ in range(2))
    return [F.normalize(q, dim=-1), F.normalize(k, dim=-1), v, -F.softplus(fade), rate.sigmoid()]


@pytest.mark.parametrize("chunk", [1, 7, 16, 64])
def test_the_delta_rule_in_chunks_is_the_rule_by_token(chunk: int) -> None:
    places = seen_of("causal", rows=2, length=40, seed=3).positions
    inputs = [x.requires_grad_() for x in delta_inputs(40, torch.float64)]
    expected, _ = delta_rule_by_token(*inputs, places)
    actual = delta_rule(*inputs, places, chunk=chunk)
    torch.testing.assert_close(actual, expected.float(), rtol=1e-4, atol=1e-5)
    weight = torch.randn(expected.shape, generator=torch.Generator().manual_seed(0))
    wanted = torch.autograd.grad((expected * weight).sum(), inputs)
    for one, two in zip(torch.autograd.grad((actual * weight).sum(), inputs), wanted, strict=True):
        torch.testing.assert_close(one, two, rtol=1e-3, atol=1e-4)


def features_of(model: Transformer, tokens: Tensor, seen: Seen) -> Tensor:
    layout = LAYOUTS["pieces"](seen, model.patterns)
    out: Tensor = model(tokens, seen.positions, layout, torch.arange(len(tokens)) if model.conditions else None)
    return out


@pytest.mark.parametrize("name", VARIANTS)
def test_no_document_reaches_another(name: str) -> None:
    model = build_model(config_of(name), seed=1)
    with torch.no_grad():
        for parameter in model.parameters():  # also those that begin at zero
            parameter += 0.01 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(1))
    documents = torch.tensor([[0] * 13 + [1] * 20 + [2] * 7])
    tokens = torch.randint(97, (1, 40), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[:, :13], changed[:, 33:] = 5, 6
    with torch.no_grad():
        whole, other = (features_of(model, ids, Seen.of(documents)) for ids in (tokens, changed))
        alone = features_of(model, tokens[:, 13:33], Seen.of(documents[:, 13:33]))
        later = tokens.clone()
        later[:, 30] = 7
        causal = features_of(model, later, Seen.of(documents))
    close = {"rtol": 1e-4, "atol": 1e-5}
    torch.testing.assert_close(whole[:, 13:33], other[:, 13:33], **close)
    torch.testing.assert_close(whole[:, 13:33], alone, **close)
    torch.testing.assert_close(whole[:, :30], causal[:, :30], **close)


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_trains(name: str) -> None:
    given = "".join(
        f"{key} = {value!r}\n".replace("'", '"').replace("True", "true").replace("False", "false")
        for key, value in {**VARIANTS[name], **({"num_conditions": 1} if name == "conditional" else {})}.items()
    )
    run = tiny_run(steps=60, model=given)
    source = TinyStream()
    learner = Learner.build(run, source.vocab_size, World(0, 1, torch.device("cpu")))
    losses = [learner.advance(source).loss for _ in range(60)]
    assert losses[0] == pytest.approx(math.log(64), abs=0.6)
    assert np.mean(losses[-5:]) < losses[0] - 0.5
    assert all(p.grad is None for p in learner.model.parameters())
    idle = [name for name, p in learner.model.named_parameters() if p not in learner.optimizer.state]
    assert not idle


@pytest.mark.parametrize("name", VARIANTS)
def test_every_variant_takes_a_step_in_bfloat16_near_that_in_float32(name: str) -> None:
    source, found = TinyStream(), []
    for bf16 in (False, True):
        config = ModelConfig(**{**SHAPE, "vocab_size": 64}, **VARIANTS[name])
        learner = Learner.build(tiny_run(), source.vocab_size, World(0, 1, torch.device("cpu")))
        learner.model = learner.forward = build_model(config, seed=1)
        learner.bf16 = bf16
        loss, _, _ = learner.measure(batch := source.batch(0), learner.objective.ask(batch, 0), slice(0, 8))
        loss.backward()  # type: ignore[no-untyped-call]
        assert all(p.grad is None or bool(p.grad.isfinite().all()) for p in learner.model.parameters())
        found.append(float(loss.detach()))
    assert found[1] == pytest.approx(found[0], rel=0.01)


@pytest.mark.parametrize("name", VARIANTS)
def test_recomputing_changes_nothing(name: str) -> None:
    seen, tokens = seen_of("causal"), torch.randint(97, (3, 40), generator=torch.Generator().manual_seed(0))
    grads = []
    for recompute in ((), range(4)):
        model = build_model(config_of(name), seed=1)
        model.recompute = frozenset(recompute)
        features_of(model, tokens, seen).square().sum().backward()  # type: ignore[no-untyped-call]
        grads.append({key: p.grad for key, p in model.named_parameters()})
    for key, grad in grads[0].items():
        assert (grad is None) == (grads[1][key] is None)
        if grad is not None:
            torch.testing.assert_close(grad, grads[1][key])


@pytest.mark.parametrize("name", VARIANTS)
def test_memory_gives_what_the_whole_text_gives(name: str) -> None:
    model = build_model(config_of(name), seed=4)
    tokens = torch.randint(97, (1, 30), generator=torch.Generator().manual_seed(2))
    places = torch.arange(30)[None]
    with torch.no_grad():
        model.eval()
        whole = features_of(model, tokens, Seen.of(torch.zeros(1, 30, dtype=torch.int32)))
        memories: list[dict[str, Any]] = [{} for _ in model.blocks]
        parts = []
        for begin, end in ((0, 11), (11, 12), (12, 13), (13, 30)):
            seen = Seen.of(torch.zeros(1, end - begin, dtype=torch.int32))
            layout = LAYOUTS["mask"](seen, model.patterns)
            parts.append(model(tokens[:, begin:end], places[:, begin:end], layout, memories=memories))
    torch.testing.assert_close(torch.cat(parts, dim=1), whole, rtol=1e-4, atol=1e-4)


def test_a_conditional_norm_begins_as_none_and_then_depends_on_the_condition() -> None:
    model = build_model(config_of("conditional"), seed=1)
    tokens, seen = torch.full((3, 40), 7), Seen.of(torch.zeros(3, 40, dtype=torch.int32))
    first = features_of(model, tokens, seen)
    torch.testing.assert_close(first[0], first[2])
    for name, parameter in model.named_parameters():
        if "modulate" in name:
            torch.nn.init.normal_(parameter, generator=torch.Generator().manual_seed(1))
    assert (features_of(model, tokens, seen)[0] - first[2]).abs().max() > 0.1


def test_a_mixing_weight_of_zero_at_first_is_a_plain_mean() -> None:
    model = build_model(config_of("attention residual"), seed=1)
    assert model.last_mix is not None
    outputs = [torch.full((1, 2, 48), float(value)) for value in (1, 2, 6)]
    torch.testing.assert_close(model.last_mix(outputs), torch.full((1, 2, 48), 3.0))


def test_standardized_weights_have_mean_zero_and_a_variance() -> None:
    layer = StandardizedLinear(64, 5)
    torch.nn.init.normal_(layer.weight, 3.0, 2.0, generator=torch.Generator().manual_seed(0))
    torch.nn.init.constant_(layer.gain, 2.0)
    weights = layer(torch.eye(64)).T
    torch.testing.assert_close(weights.mean(dim=1), torch.zeros(5), atol=1e-6, rtol=0)
    torch.testing.assert_close(weights.var(dim=1, correction=0), torch.full((5,), 4.0 / 64), rtol=1e-4, atol=0)


@pytest.mark.parametrize("name", VARIANTS)
def test_counts_are_those_of_the_model(name: str) -> None:
    config = config_of(name)
    count = count_parameters(config)
    assert count.total == sum(p.numel() for p in build_model(config, seed=0).parameters())
    assert (count.unused > 0) == (config.num_experts is not None)


def test_operations_depend_on_what_is_in_view_and_which_experts_are_met() -> None:
    full, sliding = (flops_per_token(config_of(name), 1000) for name in ("llama", "sliding"))
    assert full - sliding == 12 * 48 * 2 * (1000 - 4)
    assert flops_per_token(config_of("linear"), 1 << 16) == flops_per_token(config_of("linear"), 1 << 12)
    one = ModelConfig(**SHAPE, num_experts=8, experts_per_token=1)
    two = ModelConfig(**SHAPE, num_experts=8, experts_per_token=2)
    assert flops_per_token(two, 10) - flops_per_token(one, 10) == 6 * 4 * 3 * 48 * 64


# --------------------------------------------------------------------------------------------------------- experts


def experts(balance: Any = "loss", shared: bool = False, chosen: int = 2) -> Experts:
    made = Experts(16, 24, "swiglu", 4, chosen, shared, balance)
    for number, parameter in enumerate(made.parameters()):
        torch.nn.init.normal_(parameter, 0, 0.3, generator=torch.Generator().manual_seed(number))
    return made


@pytest.mark.parametrize("balance", ["loss", "bias"])
@pytest.mark.parametrize("shared", [False, True])
@pytest.mark.parametrize("k", [1, 2])
def test_experts_are_the_sum_over_those_chosen_token_by_token(balance: str, shared: bool, k: int) -> None:
    made, x = experts(balance, shared, k), torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(9))
    with torch.no_grad():
        actual = made(x)
        for row in range(2):
            for place in range(9):
                token = x[row, place]
                logits = made.router(token)
                scores = logits.softmax(0) if balance == "loss" else logits.sigmoid()
                chosen = scores.topk(k).indices.tolist()
                total = float(sum(scores[one] for one in chosen)) if len(chosen) > 1 else 1.0
                wanted = sum(scores[one] / total * made.experts[one](token) for one in chosen)
                if made.shared is not None:
                    wanted = wanted + made.shared(token)
                torch.testing.assert_close(actual[row, place], wanted, rtol=1e-4, atol=1e-5)
    assert made.routing is not None
    assert int(made.routing.load.sum()) == k * 18


def test_balance_loss_is_one_where_all_is_even_and_the_number_of_experts_where_one_has_all() -> None:
    made = experts(chosen=1)
    with torch.no_grad():
        made.router.weight.zero_()
        made.router.weight[0] = 100.0
        made(torch.ones(1, 8, 16))
    assert made.routing is not None
    assert float(made.routing.balance_loss) == pytest.approx(4.0)


def test_biases_even_out_what_experts_are_given() -> None:
    made = experts("bias", chosen=1)
    x = torch.randn(1, 400, 16, generator=torch.Generator().manual_seed(1)) + 0.5
    loads = []
    for _ in range(300):
        with torch.no_grad():
            made(x)
        made.count()
        loads.append(made.load.clone())
        made.rebalance(made.load.clone(), 0.01)
    assert loads[0].max() > 160
    assert loads[-1].max() < 120  # of 100 each


# ------------------------------------------------------------------------------------------------------------ loss


@pytest.mark.parametrize("cap", [None, 3.0])
@pytest.mark.parametrize("z", [0.0, 0.1])
def test_the_chunked_loss_is_cross_entropy_and_has_its_gradient(
    cap: float | None, z: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headrace.trainer.loss.CHUNK_LOGITS", 50)  # three positions at a time
    generator = torch.Generator().manual_seed(0)
    x, head = (torch.randn(*shape, generator=generator, requires_grad=True) for shape in ((10, 8), (17, 8)))
    targets = torch.randint(17, (10,), generator=generator)
    weights = torch.rand(10, generator=generator)
    total, nll = weighted_nll(x, head, targets, weights, cap, z)
    logits = x @ head.T if cap is None else cap * torch.tanh(x @ head.T / cap)
    wanted = F.cross_entropy(logits, targets, reduction="none")
    torch.testing.assert_close(nll, wanted)
    expected = ((wanted + z * logits.logsumexp(-1).square()) * weights).sum()
    torch.testing.assert_close(total, expected)
    for one, two in zip(
        torch.autograd.grad(total * 1.5, (x, head)), torch.autograd.grad(expected * 1.5, (x, head)), strict=True
    ):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


# ---------------------------------------------------------------------------------------------------------- errors


@pytest.mark.parametrize(
    ("given", "told"),
    [
        ('attention = "slidin"', "no such attention (did you mean 'sliding'?)"),
        ("num_experts = 4\nexperts_per_token = 5", "model.experts_per_token"),
        ("num_experts = 4\nffn_depth = 2", "model.num_experts"),
        ('attention = "linear"\nvalue_residual = true', "model.value_residual"),
        ('norm = "batch"', "model.norm"),
    ],
)
def test_variants_that_do_not_go_together_are_told(given: str, told: str) -> None:
    with pytest.raises(RecipeError) as error:
        tiny_run(model=given)
    assert told in str(error.value)


def test_kinds_of_attention_are_found_by_name() -> None:
    assert sorted(ATTENTIONS.all()) == ["block_sparse", "full", "linear", "sliding"]


# --------------------------------------------------------------------------------------------------------- padding


@pytest.mark.parametrize("name", ["llama", "linear", "experts", "sliding", "unet", "conditional"])
def test_leaving_padding_out_changes_neither_loss_nor_gradients(name: str) -> None:
    source, found = TinyStream(), []
    for layout in ("pieces", "mask"):
        config = ModelConfig(**{**SHAPE, "vocab_size": 64}, **VARIANTS[name])
        learner = Learner.build(tiny_run(), source.vocab_size, World(0, 1, torch.device("cpu")))
        learner.model = build_model(config, seed=1)
        learner.forward, learner.layout = learner.model, layout
        batch = source.batch(3)
        assert (batch.documents < 0).any()
        question = learner.objective.ask(batch, 0)
        loss, _, _ = learner.measure(batch, question, slice(0, 8))
        loss.backward()  # type: ignore[no-untyped-call]
        grads = {key: p.grad for key, p in learner.model.named_parameters()}
        found.append((loss.detach(), learner.negative_log_likelihood(batch, question, slice(0, 8)).detach(), grads))
    torch.testing.assert_close(found[0][:2], found[1][:2], rtol=1e-4, atol=1e-4)
    for key, grad in found[0][2].items():
        torch.testing.assert_close(grad, found[1][2][key], rtol=1e-3, atol=1e-4)


def test_a_small_scale_of_a_condition_counts_in_bfloat16() -> None:
    norm = ConditionalNorm(make_norm("rms", 8, 1e-5), 8)
    for parameter in norm.parameters():
        torch.nn.init.constant_(parameter, 0.0)
    torch.nn.init.ones_(norm.norm.weight)  # type: ignore[arg-type]
    torch.nn.init.constant_(norm.modulate.bias, 0.003)
    with torch.autocast("cpu", torch.bfloat16):
        normed = norm(torch.ones(1, 1, 8), Conditions(torch.zeros(1, 8), torch.zeros(1, 1, dtype=torch.long)))
    torch.testing.assert_close(normed, torch.full((1, 1, 8), 1.006), rtol=1e-4, atol=0)


def test_the_gradient_of_features_is_scaled_exactly() -> None:
    x = torch.randn(4, 8, generator=torch.Generator().manual_seed(0)).bfloat16().requires_grad_()
    head, targets = torch.randn(17, 8, generator=torch.Generator().manual_seed(1)), torch.arange(4)
    whole, _ = weighted_nll(x, head, targets, torch.ones(4))
    (once,) = torch.autograd.grad(whole, x)
    again, _ = weighted_nll(x, head, targets, torch.ones(4))
    (part,) = torch.autograd.grad(again / 300, x)
    torch.testing.assert_close(part, (once.float() / 300).bfloat16(), rtol=0, atol=0)


def test_a_router_with_one_expert_a_token_learns() -> None:
    made, x = experts(chosen=1), torch.randn(1, 9, 16, generator=torch.Generator().manual_seed(9))
    made(x).square().sum().backward()
    assert made.router.weight.grad is not None
    assert made.router.weight.grad.abs().max() > 1e-3


def test_padding_counts_for_no_expert() -> None:
    made, x = experts(), torch.randn(2, 9, 16, generator=torch.Generator().manual_seed(9))
    counted = torch.ones(2, 9, dtype=torch.bool)
    counted[:, 5:] = False
    made(x[:, :5])
    alone = made.routing
    made(x, counted)
    assert alone is not None
    assert made.routing is not None
    torch.testing.assert_close(made.routing.load, alone.load)
    torch.testing.assert_close(made.routing.balance_loss, alone.balance_loss)
    torch.testing.assert_close(made.routing.z_loss, alone.z_loss)


def test_a_microbatch_of_padding_alone_trains_nothing() -> None:
    for name in ("llama", "linear", "experts"):
        config = ModelConfig(**{**SHAPE, "vocab_size": 64}, **VARIANTS[name])
        learner = Learner.build(tiny_run(), 64, World(0, 1, torch.device("cpu")))
        learner.model = build_model(config, seed=1)
        learner.forward = learner.model
        batch = TinyStream().batch(0)
        batch.documents[2], batch.targets[2] = -1, IGNORE
        loss, nll, _ = learner.measure(batch, learner.objective.ask(batch, 0), slice(2, 3))
        assert (float(loss.detach()), len(nll)) == (0.0, 0)


def test_a_piece_goes_on_behind_padding_in_its_midst() -> None:
    documents = torch.tensor([[0, 0, -1, -1, 0, 0, 1, -1]])
    assert Seen.of(documents).positions.tolist() == [[0, 1, 0, 1, 2, 3, 0, 0]]
    q = torch.randn(1, 1, 8, 4, generator=torch.Generator().manual_seed(0))
    kept = documents[0] >= 0
    for pattern in (EVERYTHING, Window(2)):
        whole = LAYOUTS["mask"](Seen.of(documents), {"it": pattern}).attend(q, q, q, "it")[:, :, kept]
        part = q[:, :, kept]
        alone = LAYOUTS["pieces"](Seen.of(documents[:, kept]), {"it": pattern}).attend(part, part, part, "it")
        torch.testing.assert_close(whole, alone)


def test_fewer_conditions_than_corpora_are_told() -> None:
    with pytest.raises(RecipeError, match=r"model\.num_conditions"):
        parse_run(
            '[run]\nname = "x"\nsteps = 1\n[data]\ncorpora = [{tokens = "a"}, {tokens = "b"}]\n'
            'sequence_length = 8\nglobal_batch = 2\n[model]\nsize = "1m"\nnum_conditions = 1\n'
        )


def test_the_norm_on_a_cpu_is_torch_s_and_has_its_gradient() -> None:
    norm = make_norm("rms", 24, 1e-5).double()
    torch.nn.init.normal_(norm.weight, generator=torch.Generator().manual_seed(0))  # type: ignore[arg-type]
    x = torch.randn(3, 5, 24, generator=torch.Generator().manual_seed(1), dtype=torch.float64, requires_grad=True)
    torch.testing.assert_close(norm(x), F.rms_norm(x, (24,), norm.weight, 1e-5))  # type: ignore[arg-type]
    assert torch.autograd.gradcheck(norm, x)
    assert torch.autograd.gradcheck(lambda weight: torch.func.functional_call(norm, {"weight": weight}, x), norm.weight)


def test_the_loss_passes_the_check_of_its_gradient() -> None:
    x, head = (torch.randn(*shape, dtype=torch.float64, requires_grad=True) for shape in ((4, 3), (5, 3)))
    # Logits become float32 inside, so differences are taken coarsely.
    assert torch.autograd.gradcheck(
        lambda x, head: weighted_nll(x, head, torch.arange(4), torch.ones(4), 2.0, 0.1)[0],
        (x, head),
        eps=1e-2,
        atol=1e-2,
    )
