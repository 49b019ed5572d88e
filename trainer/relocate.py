"""Relocate: the corpora of a run at the places where they lie now, found by the content ids that the run remembers."""

from collections.abc import Sequence
from pathlib import Path

from headrace.pipeline.errors import InputError, IntegrityError
from headrace.pipeline.remote.folder import is_remote
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import MANIFEST, Store
from headrace.trainer.run_record import NO_HISTORY, History, RunRecord
from headrace.trainer.stream import Stream, open_stream

REMEDY = "where the store was moved, name it (--store DIR), or the manifests of the tokens in order (--tokens MANIFEST)"


def open_recorded(
    record: RunRecord, stores: Sequence[Path] = (), tokens: Sequence[Path] = (), history: History = NO_HISTORY
) -> Stream:
    """Open the stream of a run again; what is damaged now, and was not replaced then, is an error.

    Args:
        record: the run.
        stores: where to look for its corpora instead of where they lay.
        tokens: the manifests of its tokens, one a corpus, in the order of the run file.
        history: what befell it while it ran (`run_record.read_history`).

    Raises:
        InputError: a corpus is not there.
        IntegrityError: what is there is not what the run was trained on.
    """
    run = record.run
    places = [str(path) for path in tokens] or _places(record, stores)
    if len(places) != len(run.data.corpora):
        raise InputError(f"{len(places)} manifests of tokens are named; the run has {len(run.data.corpora)} corpora")
    for place in places:
        if not is_remote(place) and not Path(place).exists():
            raise InputError(f"{place}: the tokens of the run are not there any more; {REMEDY}")
    corpora = [item.model_copy(update={"tokens": place}) for item, place in zip(run.data.corpora, places, strict=True)]
    stream = open_stream(run.data.model_copy(update={"corpora": corpora, "damaged": "stop"}), run.run.seed)
    if stream.state() != record.stream:
        raise IntegrityError(f"{', '.join(places)}: these corpora are not those of run {run.run.name!r}; {REMEDY}")
    stream.replay(history.schedule)
    stream.mend(history.quarantined)
    return stream


def _places(record: RunRecord, stores: Sequence[Path]) -> list[str]:
    """Return where each corpus of a run lies: in one of the stores, if any is named, else where it lay."""
    old = [corpus.tokens for corpus in record.run.data.corpora]
    if not stores:
        return old
    opened = [Store.containing(store) for store in stores]
    contents = record.contents or (None,) * len(old)
    return [str(_find(content, Path(place), opened)) for content, place in zip(contents, old, strict=True)]


def _find(content: str | None, old: Path, stores: Sequence[Store]) -> Path:
    """Return the manifest of tokens with this content id; where none was remembered, the one of the same key."""
    key = (old.parent if old.name == MANIFEST else old).name
    for store in stores:
        for path in sorted(store.root.glob(f"artifacts/tokenize/*/{MANIFEST}")):
            if path.parent.name == key if content is None else Manifest.load(path).content == content:
                return path
    what = f"with the content id {content}" if content else f"of the key {key}"
    raise InputError(f"{', '.join(str(store.root) for store in stores)}: no tokens {what}, which the run was made of")
