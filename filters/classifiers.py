"""Trained classifiers as the store keeps them: a manifest that names a model by digest, and the model beside it.

Read as plain JSON, since a filter knows nothing of stores; what is trusted is the digest of the model's bytes alone.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from headrace.filters.models import ModelFileError, digest_of, find_file, find_pinned
from headrace.filters.one_line import Normalize

MANIFEST = "manifest.json"


@dataclass(frozen=True, slots=True)
class FoundClassifier:
    """Where a model lies, the sha256 of its file, and how texts were made lines for it; None where nothing says so."""

    path: Path
    sha256: str
    normalize: Normalize | None


def find_classifier(model: str, sha256: str | None) -> FoundClassifier:
    """Return the classifier of a manifest (by its path, its folder's path or that folder's name) or of a model file.

    A model file needs its `sha256`; for a manifest it may be given, to hold to that one model.

    Raises:
        ModelFileError: there is no such file, it is no classifier, or its digest is another.
    """
    place = find_file(model)
    if place is not None and place.is_dir():
        place = place / MANIFEST
    if place is None or place.suffix != ".json":
        return FoundClassifier(*find_pinned(model, sha256), None)
    path, named, normalize = _read_manifest(place)
    if sha256 not in (None, named):
        raise ModelFileError(f"{place}: names a model with sha256 {named}, asked for is {sha256}")
    if (found := digest_of(path)) != named:
        raise ModelFileError(
            f"{path} has sha256 {found}, {place.name} beside it names {named}; one of them has changed"
        )
    return FoundClassifier(path, named, normalize)


def _read_manifest(place: Path) -> tuple[Path, str, Normalize]:
    """Return path and digest of the model that a manifest names, and how its lines were made."""
    try:
        manifest: dict[str, Any] = json.loads(place.read_text(encoding="utf-8"))
        if manifest["stage"] != "classifier":
            raise ModelFileError(f"{place}: is the manifest of a {manifest['stage']!r}, not of a classifier")
        file = manifest["parts"][0]["files"]["model"]
        normalize = manifest["config"]["normalize"]
        return place.with_name(Path(file["name"]).name), str(file["sha256"]), cast(Normalize, normalize)
    except OSError as error:
        raise ModelFileError(f"{place}: cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, IndexError, TypeError):
        raise ModelFileError(
            f"{place}: is no manifest of a classifier, as `headrace classifier train` prints it"
        ) from None
