"""The store: a folder in which nothing half-made can be mistaken for something whole (law 4).

    store.json                               what this folder is
    inputs/<name>.json                       sha256 of raw inputs, remembered by place, size and time
    tasks/<stage>/<kk>/<key>/                one folder a task: files written aside, then commit.json by put-if-absent
    artifacts/<stage>/<key>/                 manifest.json, written last, and the parts as links into tasks/
    names/<stage>/<name>.json                which artifact a name stands for
    locks/<recipe>.lock.toml                 what the last build of a recipe resolved to

A task's files carry a random name until its commit names them, so that two workers on one task never share a file; the
first commit wins and the loser's files are removed. Every JSON record is written to a temporary file, flushed to disk
and then linked or renamed to its name.
"""

import errno
import logging
import os
import secrets
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from headrace.pipeline.errors import StoreError
from headrace.pipeline.hashing import digest_bytes, digest_file
from headrace.pipeline.schema import Commit, Manifest, RawInput, StoredFile, StoreRecord, Task

log = logging.getLogger(__name__)

COMMIT = "commit.json"
MANIFEST = "manifest.json"

NO_LINKS = (errno.EPERM, errno.EXDEV, errno.ENOTSUP, errno.EMLINK)
"""What a file system says that cannot link one file to another."""


@dataclass(frozen=True)
class Store:
    """A folder of tasks, artifacts and locks; with `read_only` nothing in it is made, remembered or withdrawn."""

    root: Path
    read_only: bool = False

    @classmethod
    def open(cls, root: Path) -> "Store":
        """Open the store at `root`, made if there is none.

        Raises:
            StoreError: the folder holds other things, cannot be written, or a newer program made it.
        """
        store = cls.look(root)
        if not store.exists:
            with writing(store.root):
                store.root.mkdir(parents=True, exist_ok=True)
                put_if_absent(store.record, StoreRecord().render())
        return cls(store.root)

    @classmethod
    def look(cls, root: Path) -> "Store":
        """Open the store at `root` for reading, also where there is none yet; see `open` for what is raised."""
        store = cls(root.absolute(), read_only=True)
        if store.exists:
            StoreRecord.load(store.record)
        elif root.exists() and not root.is_dir():
            raise StoreError(f"{store.root}: a file is where a folder should be: choose another place")
        elif root.exists() and any(not _is_unfinished(path, store.record) for path in root.iterdir()):
            raise StoreError(
                f"{store.root}: this folder is not a store and is not empty; name an empty or a new folder"
            )
        return store

    @property
    def record(self) -> Path:
        """Where it says that this folder is a store."""
        return self.root / "store.json"

    @property
    def exists(self) -> bool:
        """Whether there is a store at all."""
        return self.record.exists()

    @classmethod
    def containing(cls, path: Path) -> "Store":
        """Return the store that a file or folder lies in.

        Raises:
            StoreError: no folder above it is a store.
        """
        path = path.absolute()
        for folder in (path, *path.parents):
            if (folder / "store.json").exists():
                return cls.open(folder)
        raise StoreError(f"{path}: lies in no store (no store.json in any folder above it)")

    def task_folder(self, task: Task) -> Path:
        """Return the folder of a task's files."""
        key = task.key
        return self.root / "tasks" / task.stage / key[:2] / key

    def artifact_folder(self, stage: str, key: str) -> Path:
        """Return the folder of an artifact."""
        return self.root / "artifacts" / stage / key

    def part_path(self, manifest: Manifest, part: int, table: str | None = None) -> Path:
        """Return where a part of an artifact lies; of its main table if none is named."""
        file = manifest.parts[part].files[table or manifest.table]
        return self.artifact_folder(manifest.stage, manifest.key) / file.name

    def name_folder(self, stage: str) -> Path:
        """Return the folder of the names of a stage's artifacts."""
        return self.root / "names" / stage

    def relative(self, path: Path) -> str:
        """Return a path inside the store as it is written into records."""
        return path.relative_to(self.root).as_posix()

    # ------------------------------------------------------------------------------------------------------ tasks

    def find_commit(self, task: Task) -> Commit | None:
        """Return the commit of a task, or None while nobody has finished it.

        A commit whose files were deleted or cut short is withdrawn, so that the task runs again.
        """
        folder = self.task_folder(task)
        if not (folder / COMMIT).exists():
            return None
        commit = Commit.load(folder / COMMIT)
        for file in commit.files.values():
            if not _has_size(folder / file.name, file.bytes):
                log.warning("%s is missing or cut short; the task that made it runs again", folder / file.name)
                if not self.read_only:
                    (folder / COMMIT).unlink(missing_ok=True)
                return None
        return commit

    def commit(self, commit: Commit) -> Commit:
        """Publish what a task made; return the commit that stands, which may be another worker's."""
        folder = self.task_folder(commit.task)
        with writing(folder):
            for file in commit.files.values():
                sync(folder / file.name)
            if put_if_absent(folder / COMMIT, commit.render()):
                return commit
        for file in commit.files.values():
            (folder / file.name).unlink(missing_ok=True)
        return Commit.load(folder / COMMIT)

    def new_file(self, task: Task, table: str, suffix: str = ".parquet") -> Path:
        """Return a fresh path in a task's folder, to be written and then named by the commit."""
        folder = self.task_folder(task)
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
        return folder / f"{table}-{secrets.token_hex(8)}{suffix}"

    def put_file(self, task: Task, table: str, data: bytes, suffix: str) -> StoredFile:
        """Write a small file that is not a table and return its record."""
        path = self.new_file(task, table, suffix)
        with writing(path):
            path.write_bytes(data)
        digest = digest_bytes(data)
        return StoredFile(name=path.name, bytes=len(data), sha256=digest, content=digest)

    # -------------------------------------------------------------------------------------------------- artifacts

    def publish(self, manifest: Manifest, commits: Sequence[Commit]) -> Path:
        """Link the parts into the artifact's folder and write its manifest last; return the manifest's path."""
        folder = self.artifact_folder(manifest.stage, manifest.key)
        path = folder / MANIFEST
        with writing(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for part, commit in zip(manifest.parts, commits, strict=True):
                for table, file in part.files.items():
                    link(self.task_folder(commit.task) / commit.files[table].name, folder / file.name)
            if not put_if_absent(path, manifest.render()) and Manifest.load(path).parts != manifest.parts:
                replace(path, manifest.render())  # its files were lost, and those made anew have other bytes
        return path

    def is_linked(self, manifest: Manifest) -> bool:
        """Tell whether all parts of a published artifact are where it says, none of them cut short."""
        folder = self.artifact_folder(manifest.stage, manifest.key)
        return all(_has_size(folder / file.name, file.bytes) for part in manifest.parts for file in part.files.values())

    def bring(self, manifest: Manifest) -> None:
        """Make the files of an artifact be at their paths, as those of a store on this machine are."""

    def manifests(self, stage: str = "*") -> Iterator[Path]:
        """Yield the path of every manifest in the store, sorted; with a `stage`, of that stage's."""
        yield from sorted(self.root.glob(f"artifacts/{stage}/*/{MANIFEST}"))

    def find_manifest(self, stage: str, key: str) -> Path | None:
        """Return the path of an artifact's manifest, or None where it is not (or not yet) published."""
        path = self.artifact_folder(stage, key) / MANIFEST
        return path if path.exists() else None

    # ----------------------------------------------------------------------------------------------------- inputs

    def raw_digest(self, path: Path) -> str:
        """Return the sha256 of a raw input, from memory where place, size and time of change are as remembered."""
        status = path.stat()
        uri = path.absolute().as_uri()
        memo = self.root / "inputs" / f"{digest_bytes(uri.encode())[:32]}.json"
        if memo.exists():
            known = RawInput.load(memo)
            if (known.uri, known.size, known.mtime_ns) == (uri, status.st_size, status.st_mtime_ns):
                return known.sha256
        digest = digest_file(path)
        if self.read_only:
            return digest
        record = RawInput(uri=uri, size=status.st_size, mtime_ns=status.st_mtime_ns, sha256=digest)
        with writing(memo):
            memo.parent.mkdir(exist_ok=True)
            replace(memo, record.render())
        return digest


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn what a file system refuses (no space, no permission) into a `StoreError` that names path and remedy."""
    try:
        yield
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = "the disk is full: free some space and start the same command again; what is finished is kept"
        elif error.errno == errno.EFBIG:
            remedy = "no file may grow that large here (ulimit -f): lift the limit and start the same command again"
        elif error.errno in (errno.EACCES, errno.EPERM, errno.EROFS):
            remedy = "no permission to write there: choose another place"
        elif error.errno in (errno.ENOTDIR, errno.EEXIST):
            remedy = "a file is where a folder should be: choose another place"
        else:
            raise
        raise StoreError(f"{error.filename or path}: {remedy}") from error


def put_if_absent(path: Path, data: bytes) -> bool:
    """Write a whole file under a name that must be free; return False if somebody was first.

    Where the file system has no links, of two that come at the same moment the last one stands, as whole as the first.
    """
    temporary = _write_aside(path, data)
    try:
        os.link(temporary, path)
    except FileExistsError:
        return False
    except OSError as error:
        if error.errno not in NO_LINKS:
            raise
        if path.exists():
            return False
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
    sync(path.parent)
    return True


def replace(path: Path, data: bytes) -> None:
    """Write a whole file in place of what may be there, in one step."""
    _write_aside(path, data).replace(path)
    sync(path.parent)


def _write_aside(path: Path, data: bytes) -> Path:
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    return temporary


def sync(path: Path) -> None:
    """Flush a file or folder to disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def link(source: Path, target: Path) -> None:
    """Make `target` another name of `source`, in place of what may be there; a copy where there are no links."""
    if target.exists() and target.samefile(source):
        return
    temporary = target.with_name(f".{target.name}-{secrets.token_hex(8)}")
    try:
        try:
            os.link(source, temporary)
        except OSError as error:
            if error.errno not in NO_LINKS:
                raise
            shutil.copyfile(source, temporary)
            sync(temporary)
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)  # if somebody made the same link meanwhile, both names stayed


def _has_size(path: Path, num_bytes: int) -> bool:
    return path.is_file() and path.stat().st_size == num_bytes


def _is_unfinished(path: Path, record: Path) -> bool:
    """Tell whether a file is what an interrupted or a simultaneous writing of a record leaves beside it."""
    return path.name.startswith(f".{record.name}-")
