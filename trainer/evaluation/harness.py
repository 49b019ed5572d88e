"""Our models under lm-evaluation-harness: the model `headrace` of its registry (`lm_eval` 0.4; extra `harness`).

Importing this module registers the model; nothing else of ours imports it. As a command it is the harness's own
(`lm_eval`), with the model known to it:

    python -m headrace.trainer.evaluation.harness run --model headrace --model_args run=runs/first --tasks arc_easy

It is also an object for `lm_eval.simple_evaluate(model=HeadraceLM(run="runs/first"), ...)`. Requests are answered by
the same scorer that `headrace eval` uses, so a task has the same numbers there and here.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch

from headrace.filters.libraries import library_version
from headrace.pipeline.errors import InputError
from headrace.trainer.evaluation.scorer import Scorer
from headrace.trainer.evaluation.subject import open_subject

VERSION = library_version("lm_eval", extra="harness", purpose="lm-evaluation-harness")

from lm_eval.api.model import LM  # noqa: E402  # only where it is known to be there
from lm_eval.api.registry import register_model  # noqa: E402

_ALIASES = ("max_gen_toks", "max_new_tokens", "max_tokens", "max_completion_tokens")
_MAX_TOKENS = 256
HARNESS_DEVICE = "cuda:0"
"""The harness's own defaults."""


@register_model("headrace")
class HeadraceLM(LM):  # type: ignore[misc]  # the harness has no types
    """A checkpoint as the harness knows models.

    Args:
        run: A run's folder or a checkpoint's.
        device: To compute on, by default the run's. The harness says `cuda:0` of itself, which is not taken where there
            is no such device.
        pseudo: Score a model that fills in masks by pseudo-log-likelihood.
        store: Where the run's corpora lie, if they were moved.
        batch_size: Nothing; the harness gives one to every model, and so `max_batch_size`.
    """

    def __init__(
        self,
        run: str | Path,
        device: str | None = None,
        pseudo: bool = False,
        store: str | None = None,
        batch_size: Any = None,
        max_batch_size: Any = None,
    ) -> None:
        super().__init__()
        if device == HARNESS_DEVICE and not torch.cuda.is_available():
            device = None
        subject = open_subject(Path(run), [Path(store)] if store else (), device=device)
        self._answer_with(subject.scorer(pseudo))

    @classmethod
    def of(cls, scorer: Scorer) -> Self:
        """Return the model that a scorer has."""
        model = cls.__new__(cls)
        LM.__init__(model)
        model._answer_with(scorer)
        return model

    def _answer_with(self, scorer: Scorer) -> None:
        self.scorer, self._device = scorer, scorer.device

    @property
    def tokenizer_name(self) -> str:
        """What the harness calls its cache of requests by."""
        vocabulary = self.scorer.encoder.vocabulary
        return f"headrace-{vocabulary.size}"

    def loglikelihood(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[tuple[float, bool]]:
        """Return the log-likelihood of each continuation after its context, and whether it is the greedy one."""
        found = [(one.total, one.is_greedy) for one in self.scorer.likelihoods([one.args for one in requests])]
        self._remember("loglikelihood", requests, found)
        return found

    def loglikelihood_rolling(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[float]:
        """Return the log-likelihood of each text, all of it."""
        found = [one.total for one in self.scorer.rolling([one.args[0] for one in requests])]
        self._remember("loglikelihood_rolling", requests, found)
        return found

    def generate_until(self, requests: Sequence[Any], disable_tqdm: bool = False) -> list[str]:
        """Return what follows each prompt greedily.

        Raises:
            InputError: a task asks for sampling, or for more tokens than the model reads.
        """
        groups: dict[str, list[int]] = {}
        for number, request in enumerate(requests):
            groups.setdefault(json.dumps(_stops(request.args[1])), []).append(number)
        found = [""] * len(requests)
        for key, numbers in groups.items():
            until, max_tokens = json.loads(key)
            texts = self.scorer.generate([requests[number].args[0] for number in numbers], until, max_tokens)
            for number, text in zip(numbers, texts, strict=True):
                found[number] = text
        self._remember("generate_until", requests, found)
        return found

    def _remember(self, what: str, requests: Sequence[Any], found: Sequence[Any]) -> None:
        for request, answer in zip(requests, found, strict=True):
            self.cache_hook.add_partial(what, request.args, answer)


def _stops(options: Mapping[str, Any]) -> tuple[list[str], int]:
    """Return the stop strings and the greatest number of tokens that a request names."""
    if options.get("do_sample") or options.get("temperature"):
        raise InputError(f"the task samples ({dict(options)}); text is generated greedily here: set do_sample: false")
    until = options.get("until") or []
    stops = [until] if isinstance(until, str) else list(until)
    given = [options[name] for name in _ALIASES if options.get(name) is not None]
    return [stop for stop in stops if stop], int(given[0]) if given else _MAX_TOKENS


if __name__ == "__main__":
    from lm_eval.__main__ import cli_evaluate

    cli_evaluate()
