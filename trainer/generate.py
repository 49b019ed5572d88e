"""Text from a model, a token at a time, by a memory of what was read (keys and values, or a state).

What comes is what the model would give if it read the whole text again for each token. A model was trained to see so
many tokens at once; when a text grows beyond them, its later half is read again from place 0, and so on. Where layers
have a state in place of keys nothing grows, and the text goes on without an end.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor

from headrace.pipeline.errors import InputError
from headrace.trainer.attention.contract import Memory
from headrace.trainer.attention.layouts import PieceLayout
from headrace.trainer.attention.seen import Seen
from headrace.trainer.device import autocast
from headrace.trainer.model import Transformer
from headrace.trainer.objectives.contract import Sight
from headrace.trainer.sampling import Sampling


@dataclass
class Reader:
    """A model that reads one text; `length` tokens of it so far.

    With the sight `prefix`, what is read first is seen from both sides: a prompt.
    """

    model: Transformer
    sight: Sight = "causal"
    condition: int | None = None
    bf16: bool = False
    length: int = 0
    memories: list[Memory] = field(default_factory=list)

    def __post_init__(self) -> None:
        if self.sight == "bidirectional":
            raise InputError("this model fills in masks and cannot go on from a text; generation needs a causal one")
        conditions = self.model.config.num_conditions
        if self.condition is not None and not 0 <= self.condition < conditions:
            what = (
                f"the model has the conditions 0 to {conditions - 1}" if conditions else "the model has no conditions"
            )
            raise InputError(f"condition = {self.condition}: {what}")
        self.forget()

    def forget(self) -> None:
        """Begin another text."""
        self.length, self.memories = 0, [{} for _ in self.model.blocks]

    @torch.no_grad()
    def read(self, tokens: Sequence[int]) -> Tensor:
        """Read at least one more token; return the logits (V,) of the next, float32 on the CPU."""
        device = self.model.embedding.weight.device
        ids = torch.tensor([list(tokens)], device=device)
        positions = torch.arange(self.length, self.length + len(tokens), device=device)[None]
        prompt = torch.ones_like(ids, dtype=torch.bool) if self.sight == "prefix" and not self.length else None
        seen = Seen.of(torch.zeros_like(ids), self.sight, prompt)
        conditions = None if self.condition is None else torch.tensor([self.condition], device=device)
        with autocast(device, self.bf16):
            layout = PieceLayout.of(seen, self.model.patterns)
            features = self.model(ids, positions, layout, conditions, self.memories)
        self.length += len(tokens)
        logits: Tensor = self.model.logits(features[0, -1].float()).float().cpu()
        return logits


def generate(
    reader: Reader,
    prompt: Sequence[int],
    sampling: Sampling,
    generator: torch.Generator | None = None,
    context: int | None = None,
) -> Iterator[int]:
    """Yield tokens that follow a prompt, without end.

    Args:
        reader: a model that has read nothing; any device.
        prompt: at least one token; of one longer than the context the last tokens are read.
        sampling: how a token is drawn; repetitions count in the prompt, too.
        generator: source of randomness, on the CPU; torch's global one by default.
        context: how many tokens the model sees at once; without it, or where layers have a state, any number.

    Raises:
        InputError: the prompt is empty, or the context has no room for two tokens.
    """
    if not prompt:
        raise InputError("a prompt has at least one token; give <|endoftext|>, which stands before a document")
    if reader.model.config.attention == "linear":
        context = None
    if context is not None and context < 2:
        raise InputError(f"context = {context} must be at least 2")
    text = list(prompt)
    logits = reader.read(text if context is None else text[-context:])
    while True:
        text.append(sampling.draw(logits, text, generator))
        yield text[-1]
        if context is not None and reader.length >= context:
            reader.forget()
            logits = reader.read(text[-max(1, context // 2) :])
        else:
            logits = reader.read(text[-1:])
