"""Ancestry: an artifact and all that it was made from, as far back as the raw files."""

from pathlib import Path

from headrace.pipeline.errors import InputError
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import MANIFEST, Store

MAIN_LINE = ("documents", "verdicts", "corpus")
"""Roles that are followed first, so that steps stand in the order in which documents went through them."""


def manifest_of(path: Path) -> Path:
    """Return the manifest of what a person named: a manifest, an artifact's folder or one of its parts.

    Raises:
        InputError: the path is none of these.
    """
    if not path.exists():
        raise InputError(f"{path}: there is no such file; name a manifest, as `headrace build` prints it")
    found = path / MANIFEST if path.is_dir() else path if path.name == MANIFEST else path.with_name(MANIFEST)
    if not found.exists():
        raise InputError(f"{path}: is no part of an artifact (no {MANIFEST} beside it); name a file under artifacts/")
    return found.absolute()


def ancestry(manifest: Manifest, store: Store) -> list[Manifest]:
    """Return an artifact and all that it was made from, each once, what was made first first.

    Raises:
        StoreError: one of them is gone.
        IntegrityError: the record of one is damaged.
    """
    return list(_gather(manifest, store, {}).values())


def _gather(manifest: Manifest, store: Store, found: dict[str, Manifest]) -> dict[str, Manifest]:
    for item in sorted(manifest.inputs, key=lambda item: item.role not in MAIN_LINE):
        if item.key not in found:
            _gather(Manifest.load(store.artifact_folder(item.stage, item.key) / MANIFEST), store, found)
    found[manifest.key] = manifest
    return found
