"""Raw files: which files a source is, in row order, and how they are grouped into tasks.

Row order is the path relative to the glob's root. Files are grouped so that a task reads about `target` bytes, and so
that a new file does not regroup the old ones: whether a group ends behind a file depends on that file's own content and
size, as in content-defined chunking.
"""

from collections.abc import Iterator, Sequence
from glob import glob, has_magic
from pathlib import Path

from headrace.pipeline.errors import InputError
from headrace.pipeline.stages.contract import RawFile
from headrace.pipeline.store import Store


def find_files(source: str, pattern: str, store: Store) -> list[RawFile]:
    """Return the files that a glob names (`**` goes down), by path relative to its root; empty files are an error.

    Raises:
        InputError: nothing matches, a path is a folder, or a file is empty or cannot be read.
    """
    root = glob_root(pattern)
    paths = sorted({Path(name).absolute() for name in glob(str(Path(pattern).expanduser()), recursive=True)})
    found = [path for path in paths if path.is_file()]
    if not found:
        raise InputError(f"source {source!r}: {_nothing(pattern, paths)}")
    for path in found:
        _check_name(source, path)
    try:
        sizes = [path.stat().st_size for path in found]
        if 0 in sizes:
            raise InputError(
                f"source {source!r}: {found[sizes.index(0)]} is empty; remove it or leave it out of the glob"
            )
        files = [
            RawFile(path, path.relative_to(root).as_posix(), size, store.raw_digest(path))
            for path, size in zip(found, sizes, strict=True)
        ]
    except (PermissionError, FileNotFoundError) as error:
        raise InputError(f"source {source!r}: {error.filename} cannot be read: {error.strerror}") from None
    return sorted(files, key=lambda file: file.relative)


def _check_name(source: str, path: Path) -> None:
    """Raise `InputError` where a file's name is no text: records could not say where it lies."""
    try:
        str(path).encode()
    except UnicodeEncodeError:
        raise InputError(f"source {source!r}: the name of {str(path)!r} is not UTF-8; rename it") from None


def glob_root(pattern: str) -> Path:
    """Return the deepest folder that all matches of a glob lie in."""
    path = Path(pattern).expanduser().absolute()
    fixed = [part for part in path.parents if not has_magic(str(part))]
    return fixed[0]


def _nothing(pattern: str, paths: Sequence[Path]) -> str:
    if not paths:
        return f"no file matches {pattern!r}; check the path, and quote the glob so that the shell leaves it alone"
    if len(paths) == 1 and not has_magic(pattern):
        return f"{pattern!r} is a folder; name the files in it, as in {pattern.rstrip('/') + '/**/*.warc.gz'!r}"
    return f"{pattern!r} matches only folders; name the files in them"


def group_files(files: Sequence[RawFile], target: int) -> Iterator[list[RawFile]]:
    """Yield groups of files in row order, of about `target` bytes and never much above twice that."""
    group: list[RawFile] = []
    size = 0
    for file in files:
        if group and size + file.size > 2 * target:
            yield group
            group, size = [], 0
        group.append(file)
        size += file.size
        if int(file.sha256[:16], 16) * target < file.size << 64:
            yield group
            group, size = [], 0
    if group:
        yield group
