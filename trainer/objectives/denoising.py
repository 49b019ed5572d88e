"""What denoising objectives share: spans of a piece replaced by sentinels, and what stood there as the continuation.

    Thank you for inviting me to your party  ->  Thank you [0] me to your [1]  |  [0] for inviting [1] party [2]

What is before the bar is visible to all of the piece. Numbers and lengths of spans are T5's (Raffel et al. 2020): a
share of tokens is noise, so many spans that their mean length is the one asked for, all ways to cut noise and the rest
into them equally likely, the rest first. So a piece's first token is never noise. The sentinel behind the last span
says that there is no more.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from headrace.pipeline.errors import RecipeError
from headrace.trainer.objectives.pieces import Form, Piece, Written, most_tokens

Ints = NDArray[np.int64]


def noise_counts(num_tokens: int, density: float, mean_span: float) -> tuple[int, int]:
    """Return how many of at least two tokens are noise, and in how many spans."""
    noise = min(max(round(num_tokens * density), 1), num_tokens - 1)
    return noise, min(max(round(noise / mean_span), 1), noise, num_tokens - noise)


@dataclass(frozen=True)
class SpanForm:
    """Corrupted spans; `first_sentinel` and the ids after it are the sentinels, `mode` is the id written before all."""

    density: float
    mean_span: float
    first_sentinel: int
    mode: int | None = None

    def num_positions(self, num_tokens: int) -> int:
        """Return tokens, two sentinels a span and the mode."""
        if num_tokens < 2:
            return 0
        return num_tokens + 2 * noise_counts(num_tokens, self.density, self.mean_span)[1] + (self.mode is not None)

    def most_spans(self, room: int) -> int:
        """Return the spans of as many tokens as there is room for."""
        return noise_counts(max(2, most_tokens(self, room, room)), self.density, self.mean_span)[1]

    def write(self, piece: Piece, num_tokens: int, random: np.random.Generator) -> Written:
        """Corrupt a drawn stretch of a piece."""
        tokens, asked = piece.stretch(num_tokens, random)
        noise, spans = noise_counts(num_tokens, self.density, self.mean_span)
        rest_ends, noise_ends = random_ends(num_tokens - noise, spans, random), random_ends(noise, spans, random)
        is_noise = self._between(rest_ends, noise_ends, num_tokens)
        first = 0 if self.mode is None else 1
        behind = first + len(tokens) - noise + spans  # where the continuation begins
        ids = np.empty(behind + noise + spans + 1, np.int32)
        if self.mode is not None:
            ids[0] = self.mode
        at = np.arange(spans + 1)
        visible_at, asked_at = first + rest_ends + at[:-1], behind + at
        asked_at[1:] += noise_ends
        is_token = np.ones(len(ids), np.bool_)
        is_token[:first] = is_token[visible_at] = is_token[asked_at] = False
        ids[visible_at], ids[asked_at] = self.first_sentinel + at[:-1], self.first_sentinel + at
        ids[is_token] = np.concatenate((tokens[~is_noise], tokens[is_noise]))
        weights = np.zeros(len(ids), np.bool_)
        weights[asked_at] = asked[is_noise].any()
        weights[behind:][is_token[behind:]] = asked[is_noise]
        return Written(ids, weights, behind)

    @staticmethod
    def _between(rest_ends: Ints, noise_ends: Ints, num_tokens: int) -> NDArray[np.bool_]:
        """Return which tokens are noise, where the rest and the noise are cut here, each counted by itself."""
        change = np.zeros(num_tokens + 1, np.int8)
        change[rest_ends + noise_ends] = -1
        change[rest_ends[0]] = 1
        change[rest_ends[1:] + noise_ends[:-1]] = 1
        return np.cumsum(change[:-1], dtype=np.int8).view(np.bool_)


@dataclass(frozen=True)
class ContinuationForm:
    """The last share of a piece behind the rest of it, without sentinels; `mode` is the id written before all."""

    density: float
    mode: int | None = None

    def num_positions(self, num_tokens: int) -> int:
        """Return the tokens but the last, and the mode."""
        return num_tokens - 1 + (self.mode is not None) if num_tokens >= 2 else 0

    def write(self, piece: Piece, num_tokens: int, random: np.random.Generator) -> Written:
        """Ask for the end of a drawn stretch of a piece."""
        tokens, asked = piece.stretch(num_tokens, random)
        mode = [] if self.mode is None else [self.mode]
        rest = num_tokens - noise_counts(num_tokens, self.density, num_tokens)[0]
        num_visible = len(mode) + rest
        weights = np.append(np.zeros(num_visible, np.bool_), asked[rest:])
        return Written(np.concatenate((mode, tokens)).astype(np.int32), weights, num_visible)


def random_ends(total: int, parts: int, random: np.random.Generator) -> Ints:
    """Return where so many parts of a total end, each at least 1 long, all ways to cut it equally likely."""
    ends = np.empty(parts, np.int64)
    ends[:-1] = random.choice(total - 1, parts - 1, replace=False, shuffle=False)
    ends[:-1].sort()
    ends[:-1] += 1
    ends[-1] = total
    return ends


def require_sentinels(forms: Iterable[Form], room: int, sentinels: int) -> None:
    """Raise RecipeError where a piece that fills a row of so many positions has more spans than sentinels."""
    most = [(form.most_spans(room), form) for form in forms if isinstance(form, SpanForm)]
    spans, form = max(most, key=lambda one: one[0], default=(0, None))
    if form is not None and spans >= sentinels:
        raise RecipeError(
            f"sentinels = {sentinels}: rows of {room} with density = {form.density} and mean_span = {form.mean_span} "
            f"have up to {spans} spans; {spans + 1} sentinels would be enough"
        )


def check_noise(density: float, mean_span: float, sentinels: int) -> None:
    """Raise ValueError for an option that makes no sense."""
    if not 0 < density < 1:
        raise ValueError(f"density = {density} must lie between 0 and 1")
    if not 1 <= mean_span < math.inf:
        raise ValueError(f"mean_span = {mean_span} must be at least 1 token")
    if sentinels < 2:
        raise ValueError(f"sentinels = {sentinels} must be at least 2, as one ends the targets")
