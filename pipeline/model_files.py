"""Getting model files: from where they are published, or from a file or mirror that a person names.

`filters.models` knows what each file must be and where it is looked for; this is the only place that downloads one. It
is written aside, and takes its name only with the digest that is pinned.
"""

import secrets
from collections.abc import Iterator
from pathlib import Path

from headrace.filters.models import KNOWN_MODELS, ModelFile, ModelFileError, cache_folder
from headrace.pipeline.errors import ModelError
from headrace.pipeline.hashing import digest_file
from headrace.pipeline.store import writing

TIMEOUT_SECONDS = 30
CHUNK_BYTES = 1 << 16


def fetch_model(name: str, source: str | None = None) -> Path:
    """Put a known model file into the cache, from its publisher, another URL or a local file; return where it is.

    Raises:
        ModelFileError: there is no model of that name.
        ModelError: the source cannot be read, or holds another file.
    """
    if name not in KNOWN_MODELS:
        raise ModelFileError(f"there is no model {name!r}; known are {', '.join(KNOWN_MODELS)}")
    model = KNOWN_MODELS[name]
    source = source or model.url
    target = cache_folder() / model.name
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    with writing(target):
        target.parent.mkdir(parents=True, exist_ok=True)
        try:
            _copy(source, temporary, model)
            if digest_file(temporary) != model.sha256:
                raise ModelError(f"{source}: sha256 is {digest_file(temporary)}, {name} has {model.sha256}; not kept")
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return target


def _copy(source: str, target: Path, model: ModelFile) -> None:
    """Write what a source gives, but no more than one byte beyond what the model has."""
    left = model.num_bytes + 1
    with target.open("xb") as file:
        for chunk in _download(source) if source.startswith(("http://", "https://")) else _read(Path(source)):
            file.write(chunk[:left])
            left -= len(chunk)
            if left <= 0:
                return


def _read(path: Path) -> Iterator[bytes]:
    try:
        with path.open("rb") as file:
            while chunk := file.read(CHUNK_BYTES):
                yield chunk
    except OSError as error:
        raise ModelError(f"{path}: cannot be read: {error.strerror}") from None


def _download(url: str) -> Iterator[bytes]:
    import requests

    try:
        with requests.get(url, stream=True, timeout=TIMEOUT_SECONDS) as response:
            response.raise_for_status()
            yield from response.iter_content(CHUNK_BYTES)
    except requests.RequestException as error:
        raise ModelError(
            f"{url}: cannot be fetched ({error}); from another machine, take the file and give it with --from FILE"
        ) from None
