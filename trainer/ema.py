"""A moving average of the weights, evaluated beside them: after t updates

    average = d average + (1 - d) weights,        d = min(decay, (1 + t) / (10 + t))

so that the first weights, which are noise, do not stay in it for long (as TensorFlow has it). Buffers, such as biases
of routers, are the model's own.
"""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from headrace.pipeline.errors import IntegrityError
from headrace.trainer.sharded import local

SUFFIX = "/ema"
"""Follows a parameter's name in a checkpoint."""


class MovingAverage:
    """The average of a model's parameters, by name; it begins as they are, and is sharded as they are."""

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay = decay
        self.values = {name: parameter.detach().clone() for name, parameter in model.named_parameters()}

    @torch.no_grad()
    def update(self, model: nn.Module, updates: int) -> None:
        """Take in the weights after this many updates."""
        decay = min(self.decay, (1 + updates) / (10 + updates))
        weights = [local(parameter.detach()) for _, parameter in model.named_parameters()]
        torch._foreach_lerp_(list(map(local, self.values.values())), weights, 1 - decay)

    @contextmanager
    def in_place(self, model: nn.Module) -> Iterator[None]:
        """Have a model compute with the average; its own weights are put back at the end."""
        self._exchange(model)
        try:
            yield
        finally:
            self._exchange(model)

    @torch.no_grad()
    def _exchange(self, model: nn.Module) -> None:
        for name, parameter in model.named_parameters():
            mine, average = local(parameter), local(self.values[name])
            held = mine.clone()
            mine.copy_(average)
            average.copy_(held)

    def tensors(self) -> dict[str, Tensor]:
        """Return the average as `NAME/ema`."""
        return {f"{name}{SUFFIX}": value for name, value in self.values.items()}

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Put back what `tensors` returned.

        Raises:
            IntegrityError: it is of another model.
        """
        if self.tensors().keys() != tensors.keys():
            raise IntegrityError(
                f"the average is of another model: {sorted(self.tensors().keys() ^ tensors.keys())[:4]}"
            )
        for name, value in self.values.items():
            local(value).copy_(local(tensors[f"{name}{SUFFIX}"]))


def split_average(tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return the optimizer's own tensors, and those of an average."""
    average = {name: tensor for name, tensor in tensors.items() if name.endswith(SUFFIX)}
    return {name: tensor for name, tensor in tensors.items() if name not in average}, average
