"""Text as it comes: whole characters alone, and not a letter of what ends it.

Tokens of a byte-level vocabulary can be parts of a character, so text is held back while its end may be one. Text that
may be the begin of a stop string is held back until it is clear whether it is.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch

from headrace.pipeline.errors import InputError
from headrace.pipeline.vocabulary import Vocabulary
from headrace.trainer.generate import Reader, generate
from headrace.trainer.sampling import Sampling

Ending = Literal["end of text", "stop string", "max tokens"]
OnText = Callable[[str], None]

_INCOMPLETE = "\N{REPLACEMENT CHARACTER}"


@dataclass(frozen=True)
class Completion:
    """What followed a prompt.

    Attributes:
        text: without the stop string that ended it.
        tokens: ids that were drawn, `<|endoftext|>` among them.
        ended_by: why there are no more.
        prompt_tokens: tokens of the prompt, `<|endoftext|>` before it among them.
        prompt_cut: how many of them found no room in the context.
    """

    text: str
    tokens: tuple[int, ...]
    ended_by: Ending
    prompt_tokens: int
    prompt_cut: int


class TextStream:
    """Makes text of tokens that come one by one."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self._vocabulary = vocabulary
        self._ids: list[int] = []
        self._told = 0
        """Of the ids, those whose text was told; they stay, since a decoder may look at what stands before."""

    def add(self, token: int) -> str:
        """Return the text that is certain with one more token; signs beyond the vocabulary are no text."""
        if token < self._vocabulary.size:
            self._ids.append(token)
        text = self._text()
        if text.endswith(_INCOMPLETE):
            return ""
        self._ids, self._told = self._ids[self._told :], len(self._ids) - self._told
        return text

    def end(self) -> str:
        """Return what was held back."""
        text, self._ids, self._told = self._text(), [], 0
        return text

    def _text(self) -> str:
        before = self._vocabulary.decode(self._ids[: self._told])
        return self._vocabulary.decode(self._ids)[len(before) :]


class Stops:
    """Looks for stop strings in text that comes piece by piece; `found` is the first, by its place."""

    def __init__(self, stops: Sequence[str]) -> None:
        if "" in stops:
            raise InputError("a stop string has at least one character")
        self._stops = tuple(stops)
        self._held = ""
        self.found: str | None = None

    def add(self, text: str) -> str:
        """Return the text that surely stands before any stop string."""
        self._held += text
        places = [(self._held.find(stop), stop) for stop in self._stops if stop in self._held]
        if places:
            place, self.found = min(places)
            told, self._held = self._held[:place], ""
            return told
        longest = max((self._begun(stop) for stop in self._stops), default=0)
        told, self._held = self._held[: len(self._held) - longest], self._held[len(self._held) - longest :]
        return told

    def end(self) -> str:
        """Return what was held back."""
        held, self._held = self._held, ""
        return held

    def _begun(self, stop: str) -> int:
        """Return how much of a stop string's begin the text ends with."""
        sizes = range(min(len(stop) - 1, len(self._held)), 0, -1)
        return next((size for size in sizes if self._held.endswith(stop[:size])), 0)


def complete(
    reader: Reader,
    vocabulary: Vocabulary,
    prompt: str,
    max_tokens: int,
    sampling: Sampling,
    *,
    stops: Sequence[str] = (),
    seed: int | None = None,
    context: int | None = None,
    on_text: OnText | None = None,
) -> Completion:
    """Write what follows a prompt, which begins a document.

    Args:
        reader: a model that has read nothing.
        vocabulary: its tokenizer.
        prompt: any text; an empty one asks for a document from its begin.
        max_tokens: how many tokens to draw at most.
        sampling: how.
        stops: strings that end the text.
        seed: fixes what is drawn.
        context: how many tokens the model sees at once.
        on_text: is told the text as it comes.

    Raises:
        InputError: a number or a stop string cannot be.
    """
    if max_tokens < 1:
        raise InputError(f"max_tokens = {max_tokens} must be at least 1")
    ids = [vocabulary.end_of_text, *vocabulary.encode_batch([prompt])[0].tolist()]
    random = None if seed is None else torch.Generator().manual_seed(seed)
    stream, watch, told, drawn = TextStream(vocabulary), Stops(stops), [""], list[int]()

    def tell(text: str) -> None:
        if text and on_text is not None:
            on_text(text)
        told.append(text)

    ended: Ending = "max tokens"
    tokens = generate(reader, ids, sampling, random, context)
    for token in tokens:
        drawn.append(token)
        if token == vocabulary.end_of_text:
            ended = "end of text"
            break
        tell(watch.add(stream.add(token)))
        if watch.found is not None or len(drawn) == max_tokens:
            break
    if watch.found is None:
        tell(watch.add(stream.end()))
    if watch.found is None:
        tell(watch.end())
    else:
        ended = "stop string"
    read = len(ids) if context is None or reader.model.config.attention == "linear" else min(len(ids), context)
    return Completion("".join(told), tuple(drawn), ended, len(ids), len(ids) - read)
