"""How a step is taken: who trains which parameter, and each optimizer against other implementations of it."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from headrace.pipeline.errors import InputError, IntegrityError, RecipeError
from headrace.trainer.checkpoint import latest_checkpoint, restore_model
from headrace.trainer.evaluation.heldout import evaluate
from headrace.trainer.fp8 import Fp8Linear
from headrace.trainer.learner import Learner
from headrace.trainer.metrics import read_metrics
from headrace.trainer.muon import Muon, orthogonal_factor
from headrace.trainer.optimizer import load_optimizer_tensors, optimizer_tensors, parameter_groups
from headrace.trainer.parallel import World
from headrace.trainer.run_config import OptimizerSection, RunFile
from headrace.trainer.train import TrainReport, train
from tests.tiny_stream import TinyStream, tiny_run

ALONE = World(0, 1, torch.device("cpu"))
EVERY_THREE = {"eval": "every = 5", "checkpoint": "every = 3\nkeep = 2"}
MUON = {"optimizer": "kind = 'muon'"}


def learner_of(run: RunFile) -> Learner:
    return Learner.build(run, 64, ALONE)


def names_by_kind(run: RunFile) -> dict[str, str]:
    """Return what trains each parameter."""
    model = learner_of(run).model
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {
        names[parameter]: group["kind"]
        for group in parameter_groups(model, run.optimizer)
        for parameter in group["params"]
    }


# Parity with other implementations

SHAPES = [(8, 24), (24, 8), (16, 16)]


def problem(seed: int = 0) -> tuple[list[nn.Parameter], list[Tensor]]:
    """Return matrices, and those that they are to be brought near to."""
    draw = torch.Generator().manual_seed(seed)
    start = [nn.Parameter(torch.randn(shape, generator=draw) * 0.1) for shape in SHAPES]
    return start, [torch.randn(shape, generator=draw) for shape in SHAPES]


def set_gradients(parameters: list[nn.Parameter], goals: list[Tensor], step: int) -> None:
    """Set gradients of a distance, with noise that depends on the step alone."""
    for number, (parameter, goal) in enumerate(zip(parameters, goals, strict=True)):
        noise = torch.randn(parameter.shape, generator=torch.Generator().manual_seed(31 * step + number))
        parameter.grad = (parameter.detach() - goal) + 0.3 * noise


def walk(make: Callable[[list[nn.Parameter]], Any], steps: int = 100) -> list[list[Tensor]]:
    """Return the parameters after each step of an optimizer."""
    parameters, goals = problem()
    optimizer = make(parameters)
    path = []
    for step in range(steps):
        set_gradients(parameters, goals, step)
        optimizer.step()
        path.append([parameter.detach().clone() for parameter in parameters])
    return path


def ours(dtype: torch.dtype | None, kind: str = "muon") -> Callable[[list[nn.Parameter]], Muon]:
    def make(parameters: list[nn.Parameter]) -> Muon:
        parts = [(parameter.shape[0],) for parameter in parameters]
        group = {"params": parameters, "kind": kind, "parts": parts, "weight_decay": 0.1}
        return Muon([group], lr=0.02, momentum=0.9, betas=(0.9, 0.98), dtype=dtype)

    return make


def torch_muon(parameters: list[nn.Parameter]) -> torch.optim.Optimizer:
    return torch.optim.Muon(parameters, lr=0.02, momentum=0.9, weight_decay=0.1, adjust_lr_fn="match_rms_adamw")


@pytest.mark.skipif(not hasattr(torch.optim, "Muon"), reason="this torch has no Muon")
def test_a_hundred_steps_are_those_of_torch_s_muon() -> None:
    for mine, theirs in zip(walk(ours(torch.bfloat16)), walk(torch_muon), strict=True):
        for one, two in zip(mine, theirs, strict=True):
            torch.testing.assert_close(one, two, rtol=0, atol=2e-3)  # bfloat16 has 3 digits, an update is 0.004
    last = list(zip(walk(ours(None))[-1], walk(torch_muon)[-1], strict=True))
    assert all(float((one - two).norm() / two.norm()) < 0.01 for one, two in last)


def test_a_hundred_steps_are_those_of_torch_s_adamw_bit_for_bit() -> None:
    def make(parameters: list[nn.Parameter]) -> torch.optim.AdamW:
        return torch.optim.AdamW(parameters, lr=0.02, betas=(0.9, 0.98), eps=1e-8, weight_decay=0.1, fused=True)

    for mine, theirs in zip(walk(ours(None, "adamw")), walk(make), strict=True):
        assert all(torch.equal(one, two) for one, two in zip(mine, theirs, strict=True))


class PlainMuon:
    """The papers' algorithm over numpy's float64: momentum as a sum, Jordan's iterations, Moonlight's scale."""

    def __init__(self, parameters: list[nn.Parameter]) -> None:
        self.parameters = parameters
        self.weights = [parameter.detach().numpy().astype(np.float64) for parameter in parameters]
        self.momenta = [np.zeros_like(weight) for weight in self.weights]

    def step(self) -> None:
        for number, parameter in enumerate(self.parameters):
            assert parameter.grad is not None
            gradient = parameter.grad.numpy().astype(np.float64)
            self.momenta[number] = 0.9 * self.momenta[number] + gradient
            direction = newton_schulz(0.9 * self.momenta[number] + gradient)
            weight = self.weights[number]
            weight -= 0.02 * (0.1 * weight + 0.2 * max(weight.shape) ** 0.5 * direction)
            parameter.data = torch.from_numpy(weight).float()


def newton_schulz(x: NDArray[np.float64]) -> NDArray[np.float64]:
    if x.shape[0] > x.shape[1]:
        return newton_schulz(x.T).T
    x = x / np.linalg.norm(x)
    for _ in range(5):
        gram = x @ x.T
        x = 3.4445 * x + (-4.7750 * gram + 2.0315 * gram @ gram) @ x
    return x


def test_a_hundred_steps_are_those_of_the_papers_in_float64() -> None:
    for step, (mine, theirs) in enumerate(zip(walk(ours(None)), walk(PlainMuon), strict=True)):
        for one, two in zip(mine, theirs, strict=True):
            assert float((one - two).norm() / two.norm()) < 1e-4, step


@pytest.mark.parametrize("shape", [(16, 48), (48, 16), (3, 16, 16)])
def test_the_factor_is_nearly_orthogonal_and_of_the_same_directions(shape: tuple[int, ...]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    factor = orthogonal_factor(matrix, dtype=torch.float64)
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    sizes = torch.diagonal(left.mT @ factor @ right.mT, dim1=-2, dim2=-1)
    assert float(sizes.min()) > 0.65
    assert float(sizes.max()) < 1.25
    torch.testing.assert_close(left @ torch.diag_embed(sizes) @ right, factor)


def test_an_update_is_as_large_as_adamw_s() -> None:
    for start, moved in zip(problem()[0], walk(ours(None), steps=1)[0], strict=True):
        update = (moved - start.detach() * (1 - 0.02 * 0.1)) / 0.02
        assert float(update.square().mean().sqrt()) == pytest.approx(0.2, rel=0.25)


# Who trains what


def test_muon_trains_the_layers_matrices_and_adamw_the_rest() -> None:
    kinds = names_by_kind(tiny_run(model="num_experts = 2\nqk_norm = true\ntie_embeddings = false", **MUON))
    layer = "blocks.1."
    muon = {"attention.qkv", "attention.out", "feed_forward.experts.1.up", "feed_forward.experts.1.down"}
    assert {name.removeprefix(layer) for name, kind in kinds.items() if kind == "muon" and name.startswith(layer)} == {
        *(f"{name}.weight" for name in muon),
        "feed_forward.experts.0.up.weight",
        "feed_forward.experts.0.down.weight",
    }
    for name in ("embedding.weight", "head.weight", "norm.weight", f"{layer}feed_forward.router.weight"):
        assert kinds[name] == "adamw"
    assert set(names_by_kind(tiny_run()).values()) == {"adamw"}


@pytest.mark.parametrize(("model", "gates"), [("attention = 'linear'", True), ("num_conditions = 2", False)])
def test_what_gives_single_numbers_is_adamw_s(model: str, gates: bool) -> None:
    kinds = names_by_kind(tiny_run(model=model, **MUON))
    small = "attention.gates.weight" if gates else "attention_norm.modulate.weight"
    assert kinds[f"blocks.0.{small}"] == "adamw"


@pytest.mark.parametrize(
    ("model", "name", "parts"),
    [
        ("", "attention.qkv.weight", (32, 16, 16)),
        ("attention = 'sliding'", "attention.qkv.weight", (32, 16, 16)),
        ("attention = 'linear'", "attention.qkvg.weight", (32, 32, 32, 32)),
        ("ffn_width = 40", "feed_forward.up.weight", (40, 40)),
        ("ffn_width = 40\nffn_depth = 2", "feed_forward.deeper.0.weight", (40, 40)),
        ("ffn_width = 40\nactivation = 'gelu'", "feed_forward.up.weight", (40,)),
        ("ffn_width = 40\nnum_experts = 2", "feed_forward.experts.1.up.weight", (40, 40)),
    ],
)
def test_each_matrix_in_a_fused_one_is_orthogonal_by_itself(model: str, name: str, parts: tuple[int, ...]) -> None:
    run = tiny_run(model=model, optimizer="kind = 'muon'\nweight_decay = 0.0")
    learner = learner_of(run)
    weight = dict(learner.model.named_parameters())[f"blocks.0.{name}"]
    before = weight.detach().clone()
    rate = learner.advance(TinyStream()).learning_rate
    moved = (weight.detach() - before) / rate
    for part in torch.split(moved, list(parts)):
        sizes = torch.linalg.svdvals(part.double()) / (0.2 * max(part.shape) ** 0.5)
        assert float(sizes.max()) < 1.3
        assert float(sizes.median()) > 0.6


def test_rules_say_otherwise_and_the_first_wins() -> None:
    rules = """
    [[optimizer.groups]]
    pattern = "blocks.0.*qkv*"
    learning_rate = 0.5
    kind = "adamw"
    [[optimizer.groups]]
    pattern = "blocks.0.*"
    weight_decay = 0.7
    [[optimizer.groups]]
    pattern = "embedding.weight"
    learning_rate = 0.0
    """
    run = tiny_run(rules, **MUON)
    learner = learner_of(run)
    names = {parameter: name for name, parameter in learner.model.named_parameters()}
    found = {names[p]: group for group in parameter_groups(learner.model, run.optimizer) for p in group["params"]}
    told = {name: (group["kind"], group["factor"], group["weight_decay"]) for name, group in found.items()}
    assert told["blocks.0.attention.qkv.weight"] == ("adamw", 0.5, 0.1)
    assert told["blocks.0.attention.out.weight"] == ("muon", 1.0, 0.7)
    assert told["blocks.0.attention_norm.weight"] == ("adamw", 1.0, 0.7)
    assert told["blocks.1.attention.qkv.weight"] == ("muon", 1.0, 0.1)
    frozen = learner.model.embedding.weight.detach().clone()
    rate = learner.advance(TinyStream()).learning_rate
    assert torch.equal(learner.model.embedding.weight, frozen)
    assert {group["lr"] for group in learner.optimizer.param_groups} == {rate, rate / 2, 0.0}


@pytest.mark.parametrize(
    ("rules", "said"),
    [
        ("pattern = '*.qvk.weight'", r"0\.pattern = '\*\.qvk\.weight': no parameter has such a name; there are .*qkv"),
        ("pattern = '*'\n[[optimizer.groups]]\npattern = 'norm*'", r"1\.pattern = 'norm\*': earlier rules take"),
        ("pattern = '*norm*'\nkind = 'muon'", r"0\.kind = 'muon': blocks\.0\.attention_norm\.weight is a vector"),
    ],
)
def test_a_rule_that_cannot_be_is_refused(rules: str, said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        learner_of(tiny_run(f"[[optimizer.groups]]\n{rules}"))


def test_an_unknown_kind_is_refused() -> None:
    with pytest.raises(RecipeError, match=r"optimizer\.kind = 'muion'.*'adamw' or 'muon'"):
        tiny_run(optimizer="kind = 'muion'")


# Runs


@pytest.mark.parametrize("kind", ["adamw", "muon"])
def test_it_learns(kind: str) -> None:
    learner = learner_of(tiny_run(steps=80, optimizer=f"kind = '{kind}'"))
    losses = [learner.advance(TinyStream()).loss for _ in range(80)]
    assert np.mean(losses[-5:]) < losses[0] - 1


@pytest.mark.parametrize("kind", ["adamw", "muon"])
@pytest.mark.parametrize("microbatch", [1, 3])
def test_accumulation_is_exact(kind: str, microbatch: int) -> None:
    paths = []
    for rows in (f"microbatch = {microbatch}", ""):
        learner = learner_of(tiny_run(optimizer=f"kind = '{kind}'\n{rows}"))
        losses = [learner.advance(TinyStream()).loss for _ in range(4)]
        paths.append((losses, [parameter.detach().clone() for parameter in learner.model.parameters()]))
    assert paths[0][0] == pytest.approx(paths[1][0], rel=1e-6)
    for one, two in zip(paths[0][1], paths[1][1], strict=True):
        torch.testing.assert_close(one, two, rtol=1e-4, atol=1e-5)


@pytest.fixture(scope="module")
def straight(tmp_path_factory: pytest.TempPathFactory) -> TrainReport:
    return train(tiny_run(**EVERY_THREE, **MUON), TinyStream(), tmp_path_factory.mktemp("straight"))


class DeathError(Exception):
    """Ends a run without notice."""


@pytest.mark.parametrize("at", [2, 8])
def test_a_run_of_muon_goes_on_bit_for_bit(tmp_path: Path, at: int, straight: TrainReport) -> None:
    def die(record: Any) -> None:
        if record["step"] == at:
            raise DeathError

    run = tiny_run(**EVERY_THREE, **MUON)
    with pytest.raises(DeathError):
        train(run, TinyStream(), tmp_path, on_metrics=die)
    resumed = train(run, TinyStream(), tmp_path, resume=True)
    assert (resumed.weights, resumed.loss) == (straight.weights, straight.loss)
    checkpoint = latest_checkpoint(tmp_path / "checkpoints")
    assert checkpoint is not None
    kept = checkpoint.optimizer_tensors()
    assert "blocks.0.attention.qkv.weight/momentum" in kept
    assert "embedding.weight/exp_avg_sq" in kept
    assert "blocks.0.attention.qkv.weight/exp_avg" not in kept


def test_the_state_of_another_kind_is_refused() -> None:
    first, second = learner_of(tiny_run()), learner_of(tiny_run(**MUON))
    first.advance(TinyStream())
    with pytest.raises(IntegrityError, match="another model"):
        load_optimizer_tensors(second.model, second.optimizer, optimizer_tensors(first.model, first.optimizer))


def test_a_plan_without_what_came_later_is_what_it_was() -> None:
    assert tiny_run().intent()["optimizer"].keys().isdisjoint(OptimizerSection.added)
    assert tiny_run(**MUON).intent()["optimizer"]["kind"] == "muon"
    assert "momentum" not in tiny_run(**MUON).intent()["optimizer"]


# The moving average of the weights

AVERAGED = {"optimizer": "ema = 0.5"}


def test_the_average_is_what_its_rule_says() -> None:
    learner = learner_of(tiny_run(**AVERAGED))
    assert learner.average is not None
    expected = {name: parameter.detach().double() for name, parameter in learner.model.named_parameters()}
    for step in range(1, 12):
        learner.advance(TinyStream())
        decay = min(0.5, (1 + step) / (10 + step))
        for name, parameter in learner.model.named_parameters():
            expected[name] = decay * expected[name] + (1 - decay) * parameter.detach().double()
    for name, value in learner.average.values.items():
        torch.testing.assert_close(value.double(), expected[name], rtol=1e-5, atol=1e-7)


def test_an_averaged_run_is_measured_twice_resumes_and_trains_as_without(tmp_path: Path) -> None:
    def die(record: Any) -> None:
        if record["step"] == 8:
            raise DeathError

    run = tiny_run(**EVERY_THREE, **AVERAGED)
    whole = train(run, TinyStream(), tmp_path / "whole")
    with pytest.raises(DeathError):
        train(run, TinyStream(), tmp_path / "cut", on_metrics=die)
    train(run, TinyStream(), tmp_path / "cut", resume=True)
    assert whole.weights == train(tiny_run(**EVERY_THREE), TinyStream(), tmp_path / "without").weights
    first, second = (read_metrics(tmp_path / name / "metrics.jsonl")[-1] for name in ("whole", "cut"))
    assert {"ema_eval_loss", "ema_bits_per_byte"} <= first.keys()
    assert first["ema_eval_loss"] == second["ema_eval_loss"] != first["eval_loss"]
    checkpoint = latest_checkpoint(tmp_path / "cut" / "checkpoints")
    assert checkpoint is not None
    learner = learner_of(run)
    learner.model = restore_model(checkpoint, averaged=True)
    learner.forward = learner.model
    measured = evaluate(learner, TinyStream().heldout())
    assert measured is not None
    assert measured.loss == first["ema_eval_loss"]
    plain = latest_checkpoint(tmp_path / "without" / "checkpoints")
    assert plain is not None
    with pytest.raises(InputError, match=r"no average of the weights; .* optimizer\.ema = 0\.999"):
        restore_model(plain, averaged=True)


# Recomputation


def kept_bytes(learner: Learner) -> int:
    """Return the bytes that a step's forward pass keeps for its backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: Tensor) -> Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.advance(TinyStream())
    return sum(kept.values())


@pytest.mark.parametrize("model", ["", "num_experts = 2\nbalance = 'bias'", "residual = 'attention'"])
def test_recomputing_keeps_less_and_changes_no_bit(model: str) -> None:
    found = {}
    for wish in ('"none"', "2", '"all"'):
        run = tiny_run(run=f"recompute = {wish}", model=f"{model}\nvalue_residual = true")
        learner = learner_of(run)
        losses = [learner.advance(TinyStream()).loss for _ in range(3)]
        found[wish] = kept_bytes(learner)
        load = None if learner.expert_load is None else learner.expert_load.tolist()
        told = [losses, load, *(parameter.tolist() for parameter in learner.model.parameters())]
        if wish == '"none"':
            first = told
        assert told == first
    assert found['"all"'] < found["2"] < found['"none"']


def test_what_is_recomputed_is_no_part_of_the_plan_and_must_be_known() -> None:
    assert tiny_run(run="recompute = 3").intent() == tiny_run().intent()
    with pytest.raises(RecipeError, match=r"run\.recompute"):
        tiny_run(run="recompute = 'some'")
    with pytest.raises(RecipeError, match=r"run\.recompute"):
        tiny_run(run="recompute = 0")


# Products in 8 bits


def test_products_in_8_bits_are_near_those_in_32() -> None:
    draw = torch.Generator().manual_seed(5)
    plain, small = nn.Linear(48, 32, bias=False), Fp8Linear(48, 32, bias=False)
    small.load_state_dict(plain.state_dict())
    x, upstream = torch.randn(3, 7, 48, generator=draw), torch.randn(3, 7, 32, generator=draw) * 1e-4
    found = []
    for layer in (plain, small):
        given = x.clone().requires_grad_()
        out = layer(given)
        out.backward(upstream)
        assert given.grad is not None
        assert layer.weight.grad is not None
        found.append((out.detach(), given.grad, layer.weight.grad))
    for one, two, bound in zip(*found, (0.05, 0.1, 0.1), strict=True):
        assert one.shape == two.shape
        assert 1e-4 < float((one - two).norm() / one.norm()) < bound
    assert small(torch.empty(0, 48)).shape == (0, 32)


def test_a_run_in_8_bits_follows_one_in_32(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a CPU, where torch computes such products slowly, so that runs are refused there."""
    monkeypatch.setattr("headrace.trainer.learner.require_fp8", lambda device: None)
    learners = [learner_of(tiny_run(run=f"fp8 = {wish}", steps=40)) for wish in ("true", "false")]
    kinds = {name: type(module) for name, module in learners[0].model.named_modules()}
    assert kinds["blocks.0.attention.qkv"] is kinds["blocks.1.feed_forward.down"] is Fp8Linear
    assert [name for name, _ in learners[0].model.named_parameters()] == [
        name for name, _ in learners[1].model.named_parameters()
    ]
    ours, theirs = ([learner.advance(TinyStream()).loss for _ in range(40)] for learner in learners)
    assert ours != theirs
    assert ours == pytest.approx(theirs, rel=0.02)


def test_products_in_8_bits_are_refused_where_they_cannot_be(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(RecipeError, match=r"run\.fp8 = true: cpu computes no products in 8 bits; .* 8\.9"):
        learner_of(tiny_run(run="fp8 = true"))
    monkeypatch.setattr("headrace.trainer.learner.require_fp8", lambda device: None)
    with pytest.raises(RecipeError, match="no plain matrix with sides that are multiples of 16"):
        learner_of(tiny_run(run="fp8 = true", model="standardize_weights = true"))
