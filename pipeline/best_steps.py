"""Steps `best` as they were built: a plain rule, and the share that its bound was found for.

The verdicts of such a step are those of its rule, and their key has the bound and not the share: nothing is judged
again where the bound stays. The lock of the build names the threshold beside them. Without a lock, the thresholds of
the store tell the share that were found over the same earlier verdicts and came to the same bound.
"""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from headrace.filters.rules import Rule
from headrace.pipeline.errors import InputError
from headrace.pipeline.schema import Manifest
from headrace.pipeline.stages.threshold import FoundThreshold, Threshold, rule_bound
from headrace.pipeline.store import Store

_LABEL = re.compile(r"(best \d+) verdicts")


@dataclass(frozen=True)
class FoundBest:
    """A step `best` of a build: its label, the stage that found its threshold, and what that found."""

    label: str
    stage: Threshold
    found: FoundThreshold


def best_label(manifest: Manifest) -> str | None:
    """Return the label of the step `best` whose verdicts an artifact holds, None where they are another step's."""
    match = _LABEL.fullmatch(manifest.name) if manifest.stage == "rules" else None
    return match[1] if match else None


def find_best(verdicts: Manifest, chain: Sequence[Manifest], share: float | None, store: Store) -> FoundBest:
    """Return the step whose verdicts an artifact of a chain holds, with another `share` if one is given.

    Raises:
        InputError: the threshold is gone from the store, or several shares led to it and no lock says which is meant.
        IntegrityError: see `Manifest.load`.
    """
    label = best_label(verdicts)
    assert label is not None
    locked = [item for item in chain if (item.stage, item.name) == (Threshold.name, label)]
    known = list(_opened(locked, store)) if locked else list(_found_over_the_same(verdicts, store))
    shares = sorted({stage.share for stage, _ in known})
    if not known:
        raise InputError(
            f"{label}: the threshold that it was built with is gone from the store, and with it which share was asked "
            "for and what was best; build the recipe again"
        )
    if share is None and len(shares) > 1:
        raise InputError(
            f"{label}: the shares {', '.join(map(str, shares))} all led to this threshold, and no lock says which was "
            f"meant; say which, as in --set {known[0][0].column}.share={shares[0]}"
        )
    stage, found = known[0]
    return FoundBest(label, stage if share is None else stage.model_copy(update={"share": share}), found)


def _opened(manifests: Sequence[Manifest], store: Store) -> Iterator[tuple[Threshold, FoundThreshold]]:
    for manifest in manifests:
        yield Threshold.model_validate(manifest.config), FoundThreshold.load(manifest, store)


def _found_over_the_same(verdicts: Manifest, store: Store) -> Iterator[tuple[Threshold, FoundThreshold]]:
    """Yield the thresholds found over the verdicts before this artifact's and its column that came to its rule's bound.

    Others over the same have another bound, and led to other verdicts.
    """
    (data,) = verdicts.config["rules"]
    column, known = Rule.model_validate(data).column, {item.content for item in verdicts.inputs}
    for path in store.manifests(Threshold.name):
        manifest = Manifest.load(path)
        if manifest.config["column"] == column and all(item.content in known for item in manifest.inputs):
            for stage, found in _opened([manifest], store):
                if rule_bound(found.threshold, stage.best).items() <= data.items():
                    yield stage, found
