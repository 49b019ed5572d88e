"""The steps of one build, up to an artifact, as its lock names them.

An artifact is named by the content of what it was made from, so builds of different recipes share those that came out
alike, and the inputs that a manifest names are those of the build that made it first. What an artifact *is* does not
depend on that; what a changed recipe would make of it does. So a question of that kind asks the lock.
"""

from collections.abc import Sequence
from pathlib import Path

from headrace.pipeline.ancestry import ancestry
from headrace.pipeline.lock import Lock, LockedStep, locks_of
from headrace.pipeline.schema import Manifest, Upstream
from headrace.pipeline.store import Store
from headrace.pipeline.views import RAW, signal_id


def build_chain(manifest: Manifest, store: Store) -> list[Manifest]:
    """Return an artifact and all steps before it, in the order of the newest lock that names it.

    Labels and inputs are those of that build. Where no lock names the artifact, it is all that the artifact was made
    from, as `ancestry` gives it.

    Raises:
        StoreError: an artifact is gone.
        IntegrityError: the record of one, or a lock, is damaged.
    """
    steps = next((found for path in locks_of(store) if (found := _steps_to(manifest, path))), None)
    paths = [store.find_manifest(step.stage, step.key) for step in steps or ()]
    if steps is None or None in paths:
        return ancestry(manifest, store)
    chain: list[Manifest] = []
    made: dict[str, Upstream] = {}
    for step, path in zip(steps, paths, strict=True):
        assert path is not None
        loaded = Manifest.load(path)
        inputs = tuple(made.get(item.role, item) for item in loaded.inputs)
        chain.append(loaded.model_copy(update={"name": step.label, "inputs": inputs}))
        role = _role(loaded)
        made[role] = Upstream(role=role, stage=loaded.stage, key=loaded.key, content=loaded.content)
    return chain


def _steps_to(manifest: Manifest, path: Path) -> Sequence[LockedStep]:
    """Return the steps of a lock up to the one that made an artifact, none where the lock does not name it."""
    if manifest.key not in path.read_text(encoding="utf-8"):  # much faster than to decode what names other things
        return ()
    steps = Lock.load(path).steps
    ends = [n for n, step in enumerate(steps, 1) if (step.stage, step.key) == (manifest.stage, manifest.key)]
    return steps[: max(ends, default=0)]


def _role(manifest: Manifest) -> str:
    """Return the role in which later steps read what a step made."""
    match manifest.table:
        case "signals":
            name = manifest.config.get("alias") or manifest.config["signal"]
            return f"signals:{signal_id(name, manifest.config.get('view', RAW))}"
        case "findings":
            return f"findings:{manifest.stage}"
        case table:
            return table
