"""What a model is asked: tokens that it reads, and which tokens it has to give at which places.

A context and its continuation are encoded together and cut where the context's own tokens end, as lm-evaluation-harness
does it (spaces at the end of a context go with the continuation); where a token runs over the border, the cut is before
it. Before a text stands the token that the stream has before every document. What does not fit the sequence length
loses tokens on the left, which is counted.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

from headrace.pipeline.errors import InputError
from headrace.pipeline.vocabulary import Vocabulary


class Asked(NamedTuple):
    """One row of a model: `inputs`, and the `targets` that it has to give at the `places` of them."""

    inputs: tuple[int, ...]
    places: tuple[int, ...]
    targets: tuple[int, ...]


class Pair(NamedTuple):
    """A context and a continuation in tokens; the context has one token at least."""

    context: tuple[int, ...]
    continuation: tuple[int, ...]


@dataclass
class Encoder:
    """Makes tokens of texts.

    Attributes:
        vocabulary: of the tokenizer that the model was trained with.
        sequence_length: tokens that the model reads at once, at most.
        num_cut: contexts that lost tokens so far.
    """

    vocabulary: Vocabulary
    sequence_length: int
    num_cut: int = 0

    def encode(self, texts: Sequence[str]) -> list[tuple[int, ...]]:
        """Return the tokens of texts, without those that stand between documents."""
        return [tuple(ids.tolist()) for ids in self.vocabulary.encode_batch(list(texts))]

    def pairs(self, pairs: Sequence[tuple[str, str]]) -> list[Pair]:
        """Return contexts and continuations in tokens.

        Raises:
            InputError: a continuation is empty.
        """
        moved = [_spaces_moved(context, continuation) for context, continuation in pairs]
        wholes = self.encode([context + continuation for context, continuation in moved])
        contexts = self.encode([context for context, _ in moved])
        return [self._cut_between(*one) for one in zip(pairs, wholes, contexts, strict=True)]

    def _cut_between(self, pair: tuple[str, str], whole: tuple[int, ...], context: tuple[int, ...]) -> Pair:
        border = next((n for n, (a, b) in enumerate(zip(whole, context, strict=False)) if a != b), len(context))
        if not whole or not pair[1]:
            raise InputError(f"after {pair[0][-40:]!r} nothing is to be predicted; give a continuation")
        border = min(border, len(whole) - 1)
        return Pair((self.vocabulary.end_of_text, *whole[:border]), whole[border:])

    def following(self, pair: Pair) -> Asked:
        """Return what to ask for a continuation, each token after those before it.

        Raises:
            InputError: the continuation alone is longer than the model reads.
        """
        inputs = self.fitting((*pair.context, *pair.continuation)[:-1], len(pair.continuation))
        places = range(len(inputs) - len(pair.continuation), len(inputs))
        return Asked(inputs, tuple(places), pair.continuation)

    def before(self, tokens: Sequence[int], num_tokens: int) -> tuple[int, ...]:
        """Return what a model reads before it gives `num_tokens` tokens that follow a text.

        Raises:
            InputError: so many leave no room for the text.
        """
        line = (self.vocabulary.end_of_text, *tokens)
        return self._last(line, self.sequence_length - num_tokens, num_tokens)

    def fitting(self, line: tuple[int, ...], num_tokens: int) -> tuple[int, ...]:
        """Return the last tokens of a line, as many as the model reads; `num_tokens` of them are to be predicted.

        Raises:
            InputError: those alone do not fit.
        """
        return self._last(line, self.sequence_length if num_tokens <= self.sequence_length else 0, num_tokens)

    def _last(self, line: tuple[int, ...], room: int, num_tokens: int) -> tuple[int, ...]:
        if room < 1:
            raise InputError(
                f"{num_tokens} tokens are to be predicted at once, and the model reads {self.sequence_length}; "
                "ask for less, or train with a longer sequence_length"
            )
        self.num_cut += len(line) > room
        return line[-room:]

    def rolling(self, tokens: Sequence[int]) -> Iterator[Asked]:
        """Yield what to ask for all tokens of a text, each once, the last window with as much context as fits.

        Windows are those of lm-evaluation-harness (`get_rolling_token_windows` with a context of 1).
        """
        line, length = (self.vocabulary.end_of_text, *tokens), self.sequence_length
        for begin in range(0, len(tokens), length):
            end = min(begin + length, len(tokens))
            first = max(0, end - length)
            yield Asked(line[first:end], tuple(range(begin - first, end - first)), tuple(tokens[begin:end]))


def _spaces_moved(context: str, continuation: str) -> tuple[str, str]:
    """Return a pair whose context does not end in spaces: its tokens would not be those of running text."""
    kept = context.rstrip()
    return kept, context[len(kept) :] + continuation
