"""Other people's models in the plainest loop: nanoGPT as its published recipe has it, and transformers' Llama.

nanoGPT (Karpathy 2022-2024, `model.py` and `train.py`): GPT-2 with learned positions, LayerNorm without bias, GELU of
four widths, a tied head, causal SDPA, cross-entropy over all logits, AdamW fused, gradients clipped at 1.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class _NanoBlock(nn.Module):
    def __init__(self, width: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.ln_1, self.ln_2 = nn.LayerNorm(width, bias=False), nn.LayerNorm(width, bias=False)
        self.c_attn, self.c_proj = nn.Linear(width, 3 * width, bias=False), nn.Linear(width, width, bias=False)
        self.c_fc, self.mlp_proj = nn.Linear(width, 4 * width, bias=False), nn.Linear(4 * width, width, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        rows, length, width = x.shape
        q, k, v = (
            part.view(rows, length, self.heads, width // self.heads).transpose(1, 2)
            for part in self.c_attn(self.ln_1(x)).split(width, dim=2)
        )
        attended = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        x = x + self.c_proj(attended.transpose(1, 2).contiguous().view(rows, length, width))
        out: Tensor = x + self.mlp_proj(F.gelu(self.c_fc(self.ln_2(x))))
        return out


class NanoGPT(nn.Module):
    """The model of nanoGPT; `forward` returns the mean cross-entropy."""

    def __init__(self, vocab_size: int, layers: int, width: int, heads: int, length: int) -> None:
        super().__init__()
        self.wte, self.wpe = nn.Embedding(vocab_size, width), nn.Embedding(length, width)
        self.blocks = nn.ModuleList(_NanoBlock(width, heads) for _ in range(layers))
        self.ln_f = nn.LayerNorm(width, bias=False)
        self.lm_head = nn.Linear(width, vocab_size, bias=False)
        self.apply(_nano_init)
        for name, parameter in self.named_parameters():
            if name.endswith(("c_proj.weight", "mlp_proj.weight")):
                nn.init.normal_(parameter, std=0.02 / (2 * layers) ** 0.5)
        self.wte.weight = self.lm_head.weight

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Predict targets (B, T) from tokens (B, T)."""
        x = self.wte(tokens) + self.wpe(torch.arange(tokens.shape[1], device=tokens.device))
        for block in self.blocks:
            x = block(x)
        logits = self.lm_head(self.ln_f(x))
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-100)


def _nano_init(module: nn.Module) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=0.02)


class Llama(nn.Module):
    """transformers' own Llama of the same shape as ours; `forward` returns its loss."""

    def __init__(self, vocab_size: int, layers: int, width: int, heads: int, length: int, ffn_width: int) -> None:
        super().__init__()
        from transformers import LlamaConfig, LlamaForCausalLM

        config: Any = LlamaConfig(
            vocab_size=vocab_size, hidden_size=width, intermediate_size=ffn_width, num_hidden_layers=layers,
            num_attention_heads=heads, max_position_embeddings=length, tie_word_embeddings=True, use_cache=False,
            attn_implementation="sdpa",
        )  # fmt: skip
        self.model = LlamaForCausalLM(config)

    def forward(self, tokens: Tensor, targets: Tensor) -> Tensor:
        """Predict targets (B, T), which are the next tokens already, from tokens (B, T)."""
        logits = self.model(tokens, use_cache=False).logits
        return F.cross_entropy(logits.view(-1, logits.size(-1)), targets.view(-1), ignore_index=-100)


class PlainLoop:
    """Steps of a model as nanoGPT's `train.py` takes them."""

    def __init__(self, model: nn.Module, device: torch.device, bf16: bool, compiled: bool) -> None:
        self.model = model.to(device)
        self.forward = torch.compile(self.model) if compiled else self.model
        decay = [p for p in model.parameters() if p.dim() >= 2]
        others = [p for p in model.parameters() if p.dim() < 2]
        groups = [{"params": decay, "weight_decay": 0.1}, {"params": others, "weight_decay": 0.0}]
        self.optimizer = torch.optim.AdamW(groups, lr=1e-3, betas=(0.9, 0.95), fused=True)
        self.device, self.bf16 = device, bf16

    def advance(self, tokens: Tensor, targets: Tensor) -> float:
        """Take one step; return its loss."""
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            loss = self.forward(tokens, targets)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self.optimizer.step()
        self.optimizer.zero_grad(set_to_none=True)
        return float(loss.detach())
