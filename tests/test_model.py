"""The model: shape, counts, rotary positions, and attention that no other document can reach."""

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import ValidationError
from torch import Tensor

from headrace.trainer.attention.layouts import LAYOUTS, ONLY_ALL, choose_layout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.flops import count_parameters, flops_per_token, peak_flops
from headrace.trainer.model import Transformer, build_model, logits_of
from headrace.trainer.model_config import SIZES, ModelConfig, ModelSection, named_config
from headrace.trainer.rotary import rotate, rotation_at

SMALL = ModelConfig(vocab_size=97, num_layers=2, width=48, num_heads=4, num_kv_heads=2, ffn_width=64)


def dense_reference(q: Tensor, k: Tensor, v: Tensor, documents: Tensor) -> Tensor:
    """Softmax attention written out in float64, one position at a time."""
    q, k, v = q.double(), k.double(), v.double()
    out = torch.zeros_like(v)
    rows, heads, length, width = q.shape
    for row in range(rows):
        for head in range(heads):
            for place in range(length):
                start = place
                while start > 0 and documents[row, start - 1] == documents[row, place]:
                    start -= 1
                scores = k[row, head, start : place + 1] @ q[row, head, place] / math.sqrt(width)
                out[row, head, place] = torch.softmax(scores, dim=0) @ v[row, head, start : place + 1]
    return out


def random_documents(rows: int, length: int, seed: int) -> Tensor:
    random = np.random.default_rng(seed)
    documents = np.zeros((rows, length), dtype=np.int32)
    for row in range(1, rows):
        for border in random.integers(1, length, size=row):
            documents[row, border:] += 1
        documents[row, length - row :] = -1
    return torch.from_numpy(documents)


@pytest.fixture
def qkv() -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(0)
    q, k, v = (torch.randn(4, 3, 24, 8, generator=generator) for _ in range(3))
    return q, k, v


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n != "flex"])
def test_every_layout_is_the_dense_reference(name: str, qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    documents = random_documents(4, 24, seed=1)
    for numbers in (documents, torch.zeros_like(documents)):
        expected = dense_reference(*qkv, numbers)
        actual = LAYOUTS[name](Seen.of(numbers), ONLY_ALL).attend(*qkv)
        torch.testing.assert_close(actual.double(), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name", [n for n in LAYOUTS if n != "flex"])
def test_every_layout_has_the_gradient_of_the_dense_reference(name: str, qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    documents = random_documents(4, 24, seed=2)
    weight = torch.randn(qkv[0].shape, generator=torch.Generator().manual_seed(1))

    def gradients(attended: Tensor) -> list[Tensor]:
        return [g.double() for g in torch.autograd.grad((attended.double() * weight).sum(), leaves)]

    leaves = [x.clone().requires_grad_() for x in qkv]
    expected = gradients(dense_reference(leaves[0], leaves[1], leaves[2], documents))
    for actual, wanted in zip(
        gradients(LAYOUTS[name](Seen.of(documents), ONLY_ALL).attend(*leaves)), expected, strict=True
    ):
        torch.testing.assert_close(actual, wanted, rtol=1e-4, atol=1e-5)


@pytest.mark.filterwarnings("ignore:.*flex_attention.*")  # it warns that it is not compiled, which is meant here
def test_flex_layout_is_the_dense_reference(qkv: tuple[Tensor, Tensor, Tensor]) -> None:
    documents = random_documents(4, 24, seed=1)
    with torch.no_grad():
        actual = LAYOUTS["flex"](Seen.of(documents), ONLY_ALL).attend(*qkv)
    torch.testing.assert_close(actual.double(), dense_reference(*qkv, documents), rtol=1e-4, atol=1e-5)


@given(st.lists(st.lists(st.integers(1, 9), min_size=1, max_size=5), min_size=1, max_size=4))
@settings(max_examples=30, deadline=None)
def test_layouts_agree_for_any_cut_of_rows(pieces: list[list[int]]) -> None:
    length = max(map(sum, pieces))
    documents = torch.full((len(pieces), length), -1)
    for row, lengths in enumerate(pieces):
        documents[row, : sum(lengths)] = torch.repeat_interleave(torch.arange(len(lengths)), torch.tensor(lengths))
    q = torch.randn(len(pieces), 2, length, 4, generator=torch.Generator().manual_seed(length))
    first, second = (LAYOUTS[name](Seen.of(documents), ONLY_ALL).attend(q, q, q) for name in ("pieces", "mask"))
    torch.testing.assert_close(first, second, rtol=1e-4, atol=1e-5)


def test_a_document_does_not_feel_its_neighbours() -> None:
    model = build_model(SMALL, seed=1)
    documents = torch.tensor([[0] * 5 + [1] * 7 + [-1] * 4])
    positions = torch.tensor([[*range(5), *range(7), *range(4)]])
    tokens = torch.randint(97, (1, 16), generator=torch.Generator().manual_seed(0))
    changed = tokens.clone()
    changed[0, :5] = (changed[0, :5] + 1) % 97
    changed[0, 11:] = (changed[0, 11:] + 1) % 97
    one, two = (logits_of(model, t, positions, documents, "pieces") for t in (tokens, changed))
    torch.testing.assert_close(one[0, 5:11], two[0, 5:11], rtol=0, atol=0)
    assert not torch.equal(one[0, :5], two[0, :5])
    alone = logits_of(model, tokens[:, 5:12], positions[:, 5:12], documents[:, 5:12], "mask")
    torch.testing.assert_close(one[:, 5:12], alone, rtol=1e-4, atol=1e-5)


def test_rotation_keeps_length_and_depends_on_distance_only() -> None:
    q, k = torch.randn(2, 1, 1, 1, 16, generator=torch.Generator().manual_seed(0))

    def product(at_q: int, at_k: int) -> float:
        turned = (rotate(x, rotation_at(torch.tensor([[at]]), 16, 10_000.0)) for x, at in ((q, at_q), (k, at_k)))
        first, second = turned
        assert math.isclose(float(first.norm()), float(q.norm()), rel_tol=1e-5)
        return float((first * second).sum())

    assert math.isclose(product(7, 3), product(1007, 1003), rel_tol=1e-3)
    assert not math.isclose(product(7, 3), product(7, 5), rel_tol=1e-3)


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", ["1m", "5m", "15m"])
def test_counts_are_the_models(size: str, tied: bool) -> None:
    config = ModelSection(size=size, num_kv_heads=2, tie_embeddings=tied).resolve(vocab_size=1000)
    with torch.device("meta"):
        model = Transformer(config)
    assert count_parameters(config).total == sum(p.numel() for p in model.parameters())


def test_named_sizes_are_what_their_names_say() -> None:
    vocabularies = {"1m": 2048, "5m": 8192, "15m": 8192, "60m": 32_768, "124m": 50_257, "350m": 50_257}
    for size in SIZES:
        total = count_parameters(named_config(size, vocabularies[size])).total
        assert abs(total / (int(size[:-1]) * 1e6) - 1) < 0.12, (size, total)


def test_flops_are_palms_formula() -> None:
    config = named_config("15m", 8192)
    matrices = count_parameters(config).total - count_parameters(config).norm
    assert flops_per_token(config, 256) == 6 * matrices + 12 * 6 * 384 * 256
    assert flops_per_token(config, 256) - flops_per_token(config, 256, causal=True) == 6 * 6 * 384 * 256
    assert peak_flops(torch.device("cpu")) is None


def test_initial_values_depend_on_seed_name_and_shape_alone() -> None:
    small, deep = build_model(SMALL, seed=5), build_model(SMALL.model_copy(update={"num_layers": 3}), seed=5)
    assert torch.equal(small.embedding.weight, deep.embedding.weight)
    name = "blocks.1.attention.qkv.weight"
    assert torch.equal(small.state_dict()[name], deep.state_dict()[name])
    assert not torch.equal(small.embedding.weight, build_model(SMALL, seed=6).embedding.weight)
    torch.manual_seed(9)
    assert torch.equal(small.embedding.weight, build_model(SMALL, seed=5).embedding.weight)


@pytest.mark.parametrize(
    "wrong",
    [{"num_heads": 5}, {"num_kv_heads": 3}, {"vocab_size": 1}, {"width": 4, "num_heads": 4}, {"bias": True}],
)
def test_shapes_that_cannot_be_are_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(ValidationError):
        ModelConfig.model_validate({**SMALL.model_dump(), **wrong})


def test_layouts_suit_their_devices() -> None:
    cpu, cuda = torch.device("cpu"), torch.device("cuda")
    assert choose_layout(cpu, compiled=False) == "pieces"
    assert choose_layout(cpu, compiled=True) == choose_layout(cuda, compiled=False) == "mask"
    assert choose_layout(cuda, compiled=True) == "flex"
