"""Mixture of experts: each token goes to the `k` feed-forwards that its router chooses; none is ever dropped.

Balance is kept in one of two ways. `loss` adds num_experts * sum over experts of (share of tokens) * (mean
probability), which is 1 where all have the same (Fedus et al. 2021). `bias` adds nothing to the loss: a bias of each
expert, used to choose and not to weigh, goes up by a step where an expert had less than its share and down where it had
more (Wang et al. 2024; DeepSeek-V3). The z-loss keeps the router's logits small (Zoph et al. 2022). A shared expert
sees every token (Dai et al. 2024).

The tokens of an expert lie together and are one product; how many there are is asked of the device, so a compiled graph
ends here.
"""

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from headrace.trainer.feed_forward import FeedForward
from headrace.trainer.linear import Float32Linear
from headrace.trainer.model_config import Activation, Balance


@dataclass(frozen=True)
class Routing:
    """What a router did with the tokens of one forward pass: losses in nats a token, and tokens of each expert."""

    balance_loss: Tensor
    z_loss: Tensor
    load: Tensor


class Experts(nn.Module):
    """The feed-forward of a layer, as experts; `routing` is of the newest forward pass, `load` since the last step."""

    bias: Tensor
    load: Tensor

    def __init__(
        self,
        width: int,
        hidden: int,
        activation: Activation,
        num_experts: int,
        experts_per_token: int,
        shared: bool,
        balance: Balance,
    ) -> None:
        super().__init__()
        self.num_experts, self.experts_per_token, self.balance = num_experts, experts_per_token, balance
        self.router = Float32Linear(width, num_experts)
        self.experts = nn.ModuleList(FeedForward(width, hidden, activation) for _ in range(num_experts))
        self.shared = FeedForward(width, hidden, activation) if shared else None
        self.register_buffer("bias", torch.zeros(num_experts))
        self.register_buffer("load", torch.zeros(num_experts), persistent=False)
        self.routing: Routing | None = None

    def forward(self, x: Tensor, counted: Tensor | None = None) -> Tensor:
        """Transform each position of (B, T, C); those `counted` (B, T), by default all, make up loads and losses."""
        flat = x.reshape(-1, x.shape[-1])
        logits = self.router(flat)
        weights, chosen = self._choose(logits)
        order = chosen.flatten().argsort(stable=True)
        counts = torch.bincount(chosen.flatten(), minlength=self.num_experts)
        self._remember(logits, chosen, counted)
        rows = order // self.experts_per_token
        parts = torch.split(flat[rows], counts.tolist())
        made = torch.cat([expert(part) for expert, part in zip(self.experts, parts, strict=True)])
        made = made * weights.flatten()[order, None].to(made.dtype)
        out = torch.zeros_like(flat, dtype=made.dtype).index_add(0, rows, made)
        if self.shared is not None:
            out = out + self.shared(flat)
        return out.view(x.shape)

    def _choose(self, logits: Tensor) -> tuple[Tensor, Tensor]:
        """Return weights and numbers of each token's experts, both (tokens, k).

        Weights sum to one, but that of a single expert is its score: 1 would teach the router nothing.
        """
        if self.balance == "loss":
            scores = logits.softmax(dim=-1)
            weights, chosen = scores.topk(self.experts_per_token, dim=-1)
        else:
            scores = logits.sigmoid()
            chosen = (scores + self.bias).topk(self.experts_per_token, dim=-1).indices
            weights = scores.gather(1, chosen)
        total = weights.sum(dim=-1, keepdim=True) if self.experts_per_token > 1 else 1.0
        return weights / total, chosen

    def _remember(self, logits: Tensor, chosen: Tensor, counted: Tensor | None) -> None:
        if counted is not None:
            logits, chosen = logits[counted.flatten()], chosen[counted.flatten()]
        counts = torch.bincount(chosen.flatten(), minlength=self.num_experts)
        share = counts / counts.sum().clamp(min=1)
        size = max(1, len(logits))
        balance = self.num_experts * (share * logits.softmax(dim=-1).sum(dim=0) / size).sum()
        z_loss = logits.logsumexp(dim=-1).square().sum() / size
        self.routing = Routing(balance, z_loss, counts)

    def count(self) -> None:
        """Add the tokens of the newest forward pass to `load`; not done there, which recomputation may call again."""
        assert self.routing is not None, "there was no forward pass"
        self.load += self.routing.load

    def rebalance(self, load: Tensor, rate: float) -> None:
        """Move the biases after a step, in which the experts had these tokens on all ranks together."""
        if self.balance == "bias":
            self.bias += rate * (load.mean() - load).sign()
        self.load.zero_()
