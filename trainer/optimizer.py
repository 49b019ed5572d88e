"""Which parameter is trained how, AdamW or Muon over them, and the optimizer's state as named tensors.

By default AdamW (Loshchilov and Hutter 2019) trains all; matrices decay, vectors (norm scales) do not. With `muon` the
layers' matrices are Muon's (`trainer.muon`); embeddings, head, vectors, and matrices whose outputs are single numbers
(routers, gates, scales of conditional norms) stay AdamW's. Rules of the run file, of which the first whose pattern fits
a name wins, say otherwise.

The state is kept by parameter name, never by position, so that a checkpoint does not depend on the order in which a
model lists its parameters.
"""

from collections.abc import Iterator, Mapping, Sequence
from difflib import get_close_matches
from fnmatch import fnmatchcase
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from headrace.pipeline.errors import IntegrityError, RecipeError
from headrace.trainer.muon import Muon
from headrace.trainer.run_config import GroupRule, OptimizerKind, OptimizerSection
from headrace.trainer.sharded import is_sharded

MOMENTS: Mapping[OptimizerKind, tuple[str, ...]] = {
    "adamw": ("exp_avg", "exp_avg_sq", "step"),
    "muon": ("momentum",),
}
"""What each kind remembers of a parameter."""

_SMALL = ("*router.weight", "*gates.weight", "*modulate.weight")
"""Matrices of layers that are none from features to features."""


class Treatment(NamedTuple):
    """How a parameter is trained: by what, its learning rate as a factor of the run's, and its weight decay."""

    kind: OptimizerKind
    learning_rate: float
    weight_decay: float


def parameter_groups(model: nn.Module, section: OptimizerSection) -> list[dict[str, Any]]:
    """Return the groups for an optimizer, one for each treatment; `factor` is that of the learning rate.

    Sharded parameters and whole ones are groups of their own, because no kernel takes both.

    Raises:
        RecipeError: a rule fits no parameter, or none that an earlier rule left, or would have Muon train a vector.
    """
    groups: dict[tuple[Treatment, bool], dict[str, Any]] = {}
    parts = dict(_fused_rows(model))
    used: set[int] = set()
    trained = {name: parameter for name, parameter in model.named_parameters() if parameter.requires_grad}
    for name, parameter in trained.items():
        treatment, number = _treat(name, parameter, section)
        used |= {number} if number is not None else set()
        new = {"params": [], "weight_decay": treatment.weight_decay, "factor": treatment.learning_rate}
        group = groups.setdefault((treatment, is_sharded(parameter)), new | ({"kind": treatment.kind, "parts": []}))
        group["params"].append(parameter)
        if treatment.kind == "muon":
            group["parts"].append(parts.get(name, (parameter.shape[-2],)))
    _require_use(section.groups, used, list(trained))
    return list(groups.values())


def _treat(name: str, parameter: Tensor, section: OptimizerSection) -> tuple[Treatment, int | None]:
    """Return how a parameter is trained, and the number of the rule that says so."""
    matched = [number for number, rule in enumerate(section.groups) if fnmatchcase(name, rule.pattern)]
    number = matched[0] if matched else None
    rule = section.groups[number] if number is not None else GroupRule(pattern=name)
    kind = rule.kind or (section.kind if is_hidden(name, parameter) else "adamw")
    if kind == "muon" and parameter.ndim < 2:
        raise RecipeError(
            f"optimizer.groups.{number}.kind = 'muon': {name} is a vector, and Muon trains matrices; "
            "narrow the pattern, or write 'adamw'"
        )
    usual = section.weight_decay if parameter.ndim >= 2 else 0.0
    decay = usual if rule.weight_decay is None else rule.weight_decay
    return Treatment(kind, rule.learning_rate, decay), number


def is_hidden(name: str, parameter: Tensor) -> bool:
    """Return whether a parameter is a layer's matrix from features to features."""
    return name.startswith("blocks.") and parameter.ndim >= 2 and not any(fnmatchcase(name, one) for one in _SMALL)


def _fused_rows(model: nn.Module) -> Iterator[tuple[str, Sequence[int]]]:
    """Yield the name of each matrix that holds several, and the rows of each; modules tell by `fused_rows`."""
    for name, module in model.named_modules():
        tell = getattr(module, "fused_rows", None)
        for own, rows in tell().items() if tell is not None else ():
            yield f"{name}.{own}", rows


def _require_use(rules: Sequence[GroupRule], used: set[int], names: Sequence[str]) -> None:
    for number, rule in enumerate(rules):
        if number in used:
            continue
        where = f"optimizer.groups.{number}.pattern = {rule.pattern!r}"
        if any(fnmatchcase(name, rule.pattern) for name in names):
            raise RecipeError(f"{where}: earlier rules take all that it fits, and the first wins; move it up")
        near = get_close_matches(rule.pattern, names, n=3, cutoff=0.0)
        raise RecipeError(f"{where}: no parameter has such a name; there are {', '.join(near)}")


def build_optimizer(model: nn.Module, section: OptimizerSection) -> torch.optim.Optimizer:
    """Make the optimizer of a run; AdamW is fused into one kernel where torch has it.

    Raises:
        RecipeError: see `parameter_groups`.
    """
    groups = parameter_groups(model, section)
    if any(group["kind"] == "muon" for group in groups):
        return Muon(
            groups,
            lr=section.learning_rate,
            momentum=section.momentum,
            iterations=section.iterations,
            betas=section.betas,
            eps=section.eps,
        )
    device = next(model.parameters()).device
    return torch.optim.AdamW(
        groups,
        lr=section.learning_rate,
        betas=section.betas,
        eps=section.eps,
        fused=device.type in ("cpu", "cuda"),
    )


def set_rate(optimizer: torch.optim.Optimizer, rate: float) -> None:
    """Give every group its share of a learning rate."""
    for group in optimizer.param_groups:
        group["lr"] = rate * group["factor"]


def optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, Tensor]:
    """Return what is remembered of each parameter as `NAME/exp_avg`, `NAME/momentum` and so on (`MOMENTS`)."""
    kinds = _kinds(optimizer)
    return {
        f"{name}/{moment}": optimizer.state[parameter][moment].detach()
        for name, parameter in model.named_parameters()
        if parameter in optimizer.state
        for moment in MOMENTS[kinds[parameter]]
    }


def load_optimizer_tensors(model: nn.Module, optimizer: torch.optim.Optimizer, tensors: Mapping[str, Tensor]) -> None:
    """Put back what `optimizer_tensors` returned; of an optimizer that never took a step, nothing.

    Raises:
        IntegrityError: a moment is missing or unknown, or has another shape than its parameter.
    """
    optimizer.state.clear()
    if not tensors:
        return
    kinds = _kinds(optimizer)
    moments_of = {name: MOMENTS[kinds[parameter]] for name, parameter in model.named_parameters()}
    wanted = {f"{name}/{moment}" for name, moments in moments_of.items() for moment in moments}
    if wanted ^ tensors.keys():
        raise IntegrityError(f"the optimizer's state is of another model: {sorted(wanted ^ tensors.keys())[:4]}")
    for name, parameter in model.named_parameters():
        # A copy, because steps write into it, and what was read may be asked again.
        moments = {key: tensors[f"{name}/{key}"].to(parameter.device, copy=True) for key in moments_of[name]}
        if any(moment.shape != parameter.shape for key, moment in moments.items() if key != "step"):
            raise IntegrityError(f"the optimizer's state of {name} does not have the shape {tuple(parameter.shape)}")
        optimizer.state[parameter] = moments


def _kinds(optimizer: torch.optim.Optimizer) -> dict[Tensor, OptimizerKind]:
    return {parameter: group["kind"] for group in optimizer.param_groups for parameter in group["params"]}
