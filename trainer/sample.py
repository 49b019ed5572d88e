"""Drawing text from a model, one token at a time.

Each token is drawn from softmax(logits / temperature) over the `top_k` likeliest; temperature 0 takes the likeliest.
The whole context is computed again for every token: for the small models made here that costs little, and there is
no second way through the model that could differ from training.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from headrace.trainer.attention.layouts import PieceLayout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.model import Transformer


@torch.no_grad()
def generate(
    model: Transformer,
    tokens: Sequence[int],
    num_tokens: int,
    temperature: float = 1.0,
    top_k: int | None = None,
    generator: torch.Generator | None = None,
    context: int | None = None,
) -> list[int]:
    """Return `num_tokens` tokens that follow `tokens`.

    Args:
        model: any device; the generator must live on the CPU.
        tokens: the prompt, at least one token.
        num_tokens: how many to draw.
        temperature: 0 is greedy.
        top_k: draw among this many; all of the vocabulary by default.
        generator: source of randomness; torch's global one by default.
        context: the model sees this many last tokens; give the training's sequence length.

    Raises:
        ValueError: the prompt is empty, or a number is out of range.
    """
    if not tokens or temperature < 0 or (top_k is not None and top_k < 1):
        raise ValueError("generate needs a prompt of at least one token, temperature >= 0 and top_k >= 1")
    device = model.embedding.weight.device
    text = list(tokens)
    for _ in range(num_tokens):
        seen = torch.tensor([text[-context:] if context else text], device=device)
        positions = torch.arange(seen.shape[1], device=device)[None]
        layout = PieceLayout.of(Seen.of(torch.zeros_like(seen)), model.patterns)
        logits = model.logits(model(seen, positions, layout)[0, -1])
        text.append(_draw(logits.float().cpu(), temperature, top_k, generator))
    return text[len(tokens) :]


def _draw(logits: Tensor, temperature: float, top_k: int | None, generator: torch.Generator | None) -> int:
    if temperature == 0:
        return int(logits.argmax())
    values, ids = logits.topk(min(top_k or len(logits), len(logits)))
    choice = torch.multinomial(torch.softmax(values / temperature, dim=0), 1, generator=generator)
    return int(ids[choice])
