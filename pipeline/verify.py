"""Verify: hash everything again and compare it with what the records say.

A record's bytes must be its one rendering and bear its digest. From there on records vouch for the rest: a commit for
the files of its task, a manifest for its parts, their commits and what it was made from, a lock for artifacts. Damage
never raises: it becomes a finding that names the file and the place in it. Files that nothing vouches for are listed as
stray: what killed workers left behind, which nobody reads.
"""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import pyarrow as pa

from headrace.pipeline.consistency import commit_faults, input_faults, ledger_faults, manifest_faults
from headrace.pipeline.damage import Damage, find_damage
from headrace.pipeline.erasures import FOLDER as ERASURES
from headrace.pipeline.erasures import Erasure
from headrace.pipeline.errors import HeadraceError, IntegrityError, StoreError, UnstableValueError
from headrace.pipeline.hashing import digest_bytes, digest_file, digest_json
from headrace.pipeline.lock import Lock
from headrace.pipeline.origins import local_path
from headrace.pipeline.removal import DONE, RECORD, Removal, Removed, is_pending
from headrace.pipeline.schema import (
    TABLES,
    Commit,
    Manifest,
    NamedArtifact,
    Part,
    RawInput,
    Signed,
    StoredFile,
    StoreRecord,
    Upstream,
)
from headrace.pipeline.store import COMMIT, MANIFEST, Store
from headrace.pipeline.suppressions import FOLDER, NAMES, Suppression, SuppressionNames, names_there
from headrace.pipeline.tables import read_schema

LOCK_SUFFIX = ".lock.toml"

R = TypeVar("R", bound=Signed)
Watcher = Callable[[str], None]


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong: the file (below the store's root), what, and where in the file (empty: all of it)."""

    path: str
    what: str
    where: str


@dataclass(frozen=True)
class Stray:
    """A file of the store that no record names, and what it probably is."""

    path: str
    note: str


@dataclass(frozen=True)
class VerifyReport:
    """What verifying found; `files` and `bytes` count what was hashed, each file once however many names it has."""

    path: str
    files: int
    bytes: int
    artifacts: int
    findings: tuple[Finding, ...]
    stray: tuple[Stray, ...]

    @property
    def ok(self) -> bool:
        """Whether nothing is wrong; stray files are not."""
        return not self.findings


def verify(path: Path, *, raw: bool = False, watch: Watcher = lambda name: None) -> VerifyReport:
    """Hash a store, an artifact with all that it was made from, or what a lock names, and compare with the records.

    With `raw`, also the raw inputs that still lie where they lay, with the size and time that are remembered. `watch`
    is called with the name of each file before it is hashed.

    Raises:
        StoreError: the path is none of these, or a newer program wrote one of the records.
    """
    path = path.absolute()
    if path.is_dir():
        path = next((path / name for name in ("store.json", MANIFEST) if (path / name).exists()), path)
    root = _store_root(path)
    work = _Verifier(root, raw, watch)
    if path in (root, root / "store.json"):
        work.check_store()
    elif path.name == MANIFEST:
        work.check_record(StoreRecord, root / "store.json")
        work.check_artifact(path.parent)
    elif path.name.endswith(LOCK_SUFFIX):
        work.check_record(StoreRecord, root / "store.json")
        work.check_lock(path)
    else:
        raise StoreError(f"{path}: cannot be verified; name a store, a {MANIFEST} or a lock in a store")
    return work.report(path)


def _store_root(path: Path) -> Path:
    """Return the root of the store that a path lies in, also where its `store.json` was lost."""
    if not path.exists():
        raise StoreError(f"{path}: there is no such file or folder; name a store, a {MANIFEST} or a lock in a store")
    for folder in (path, *path.parents):
        if (folder / "store.json").exists() or {"tasks", "artifacts"} <= {item.name for item in _entries(folder)}:
            return folder
    raise StoreError(f"{path}: lies in no store (no store.json in any folder above it)")


def _entries(folder: Path) -> Iterable[Path]:
    return folder.iterdir() if folder.is_dir() else ()


class _Verifier:
    """One pass over a store: each record and each file is read once, whoever names it."""

    def __init__(self, root: Path, raw: bool, watch: Watcher) -> None:
        self.store, self.raw, self.watch = Store(root), raw, watch
        self.findings: dict[Finding, None] = {}
        self.covered: set[Path] = set()
        self.stray: list[Stray] = []
        self.num_files = self.num_bytes = 0
        self._records: dict[Path, Signed | None] = {}
        self._artifacts: dict[Path, Manifest | None] = {}
        self._hashed: dict[tuple[int, int, str], list[Damage]] = {}

    def report(self, path: Path) -> VerifyReport:
        """Return what was found so far."""
        found = tuple(sorted(self.findings, key=lambda finding: (finding.path, finding.where, finding.what)))
        return VerifyReport(str(path), self.num_files, self.num_bytes, len(self._artifacts), found, tuple(self.stray))

    def found(self, path: Path, what: str, where: str = "") -> None:
        """Note that something is wrong."""
        self.findings[Finding(self._name(path), what, where)] = None

    def _count(self, path: Path, num_bytes: int) -> None:
        self.watch(self._name(path))
        self.num_files, self.num_bytes = self.num_files + 1, self.num_bytes + num_bytes

    def _name(self, path: Path) -> str:
        root = self.store.root
        return self.store.relative(path) if path.is_relative_to(root) else str(path)

    # ------------------------------------------------------------------------------------------------ whole store

    def check_store(self) -> None:
        """Check every file of the store."""
        root = self.store.root
        self.check_record(StoreRecord, root / "store.json")
        for path in sorted(root.glob("inputs/*.json")):
            self.check_raw_input(path)
        for path in sorted(root.glob(f"tasks/*/*/*/{COMMIT}")):
            self.check_commit(path)
        for path in self.store.manifests():
            self.check_artifact(path.parent)
        for path in sorted(root.glob("names/*/[!.]*.json")):
            self.check_name(path)
        for path in sorted(root.glob(f"{ERASURES}/[0-9a-f]*.json")):
            self.check_record(Erasure, path)
        for path in sorted(root.glob(f"{ERASURES}/{DONE}*.json")):
            self.check_record(Removed, path)
        if is_pending(self.store):
            self.check_record(Removal, root / ERASURES / RECORD)
        for path in sorted(root.glob(f"{FOLDER}/[!.]*.json")):
            self.check_suppression(path)
        if (root / NAMES).exists():
            self.check_names_of_suppressions(root / NAMES)
        for path in sorted(root.glob(f"locks/*{LOCK_SUFFIX}")):
            self.check_lock(path)
        unknown = (path for path in root.rglob("*") if not path.is_dir() and path not in self.covered)
        self.stray = [Stray(self._name(path), self._note(path)) for path in sorted(unknown)]

    def _note(self, path: Path) -> str:
        if path.name.startswith("."):
            return "a temporary file that a killed worker left; it can be removed"
        if (path.parent / COMMIT).exists() or (path.parent / MANIFEST).exists():
            return "no record names it; it can be removed"
        folder = self._name(path).partition("/")[0]
        if folder in ("tasks", "artifacts"):
            return "work that was not finished; the next build makes it anew"
        return "not a file of Headrace"

    # ---------------------------------------------------------------------------------------------------- records

    def check_record(self, cls: type[R], path: Path) -> R | None:
        """Return a record, or None (and a finding) where it is damaged."""
        if path not in self._records:
            self.covered.add(path)
            self._records[path] = self._load(cls, path)
        record = self._records[path]
        return record if isinstance(record, cls) else None

    def _load(self, cls: type[R], path: Path) -> R | None:
        try:
            data = path.read_bytes()
        except OSError as error:
            self.found(path, f"cannot be read: {error.strerror}")
            return None
        self._count(path, len(data))
        try:
            return cls.parse(data, str(path))
        except StoreError:
            if _is_signed(data):
                raise
            self.found(path, "the record's digest is not that of its fields", "schema_version")
        except IntegrityError as error:
            self.found(path, str(error).removeprefix(f"{path}: "), _place(data))
        return None

    def check_raw_input(self, path: Path) -> None:
        """Check what is remembered of a raw input, and the input itself if that was asked for."""
        known = self.check_record(RawInput, path)
        if known is None:
            return
        if path.stem != digest_bytes(known.uri.encode())[:32]:
            self.found(path, f"the record is of {known.uri}, which has another name", "uri")
        raw = local_path(known.uri)
        if self.raw and raw is not None and raw.is_file():
            status = raw.stat()
            if (status.st_size, status.st_mtime_ns) == (known.size, known.mtime_ns):
                self._count(raw, status.st_size)
                if digest_file(raw) != known.sha256:
                    self.found(raw, f"has not the sha256 {known.sha256} that it had when it was read")

    # ------------------------------------------------------------------------------------------- tasks and artifacts

    def check_commit(self, path: Path) -> Commit | None:
        """Check a commit and the files that it names."""
        known = path in self._records
        commit = self.check_record(Commit, path)
        if known or commit is None:
            return commit
        if self.store.task_folder(commit.task) != path.parent:
            self.found(path, f"the task's key is {commit.key}, its folder has another name", "task")
        for damage in ledger_faults(commit.ledger):
            self.found(path, damage.what, damage.where)
        for file in commit.files.values():
            self._check_file(path.parent / file.name, file)
        return commit

    def _check_file(self, path: Path, record: StoredFile) -> None:
        self.covered.add(path)
        for damage in self._damage(path, record):
            self.found(path, damage.what, damage.where)

    def _damage(self, path: Path, record: StoredFile) -> list[Damage]:
        """Return the damage of a file; the many names of one file are hashed once."""
        if not path.is_file():
            return find_damage(path, record)
        status = path.stat()
        key = (status.st_dev, status.st_ino, record.sha256)
        if key not in self._hashed:
            self._count(path, status.st_size)
            self._hashed[key] = find_damage(path, record)
        return self._hashed[key]

    def check_artifact(self, folder: Path) -> Manifest | None:
        """Check an artifact: its manifest, parts and commits, and all artifacts that it was made from."""
        if folder in self._artifacts:
            return self._artifacts[folder]
        path = folder / MANIFEST
        manifest = self._artifacts[folder] = self.check_record(Manifest, path)
        if manifest is None:
            return None
        if self.store.artifact_folder(manifest.stage, manifest.key) != folder:
            self.found(path, f"the artifact's key is {manifest.key}, its folder has another name", "key")
        for part in manifest.parts:
            for file in part.files.values():
                self._check_file(folder / file.name, file)
        schemas = {table: self._schema(table, manifest, folder) for table in manifest.contents}
        commits = [self.check_commit(self._commit_path(manifest, part)) for part in manifest.parts]
        sources = [self._check_upstream(item) for item in manifest.inputs]
        for damage in (
            *manifest_faults(manifest, schemas),
            *commit_faults(manifest, commits),
            *input_faults(manifest, sources),
        ):
            self.found(path, damage.what, damage.where)
        return manifest

    def _commit_path(self, manifest: Manifest, part: Part) -> Path:
        return self.store.root / "tasks" / manifest.stage / part.task[:2] / part.task / COMMIT

    def _schema(self, table: str, manifest: Manifest, folder: Path) -> pa.Schema | None:
        """Return a table's schema; None for other files, and for a table whose first part is damaged."""
        file = next((part.files[table] for part in manifest.parts if table in part.files), None)
        if file is None or file.rows is None or self._damage(folder / file.name, file):
            return None
        return TABLES[table] if table in TABLES else read_schema(folder / file.name)

    def _check_upstream(self, item: Upstream) -> Manifest | None:
        return self.check_artifact(self.store.artifact_folder(item.stage, item.key))

    # ---------------------------------------------------------------------------------------------- names and locks

    def check_name(self, path: Path) -> None:
        """Check what a name stands for."""
        known = self.check_record(NamedArtifact, path)
        if known is None:
            return
        if (known.stage, f"{known.name}.json") != (path.parent.name, path.name):
            self.found(path, f"the record is of the {known.stage} {known.name!r}, which has another place", "name")
        made = self.check_artifact(self.store.artifact_folder(known.stage, known.key))
        if made is not None and made.content != known.content:
            self.found(path, f"the artifact has the content id {made.content}", "content")

    def check_suppression(self, path: Path) -> None:
        """Check a record of what was taken down, and that it has the name that goes with it."""
        known = self.check_record(Suppression, path)
        if known is not None and f"{known.name}.json" != path.name:
            self.found(path, f"the record is {known.name!r}, which has another place", "digest")

    def check_names_of_suppressions(self, path: Path) -> None:
        """Check that the suppressions that are there are those that their list names."""
        known = self.check_record(SuppressionNames, path)
        for name in sorted({*known.names}.symmetric_difference(names_there(self.store)) if known else ()):
            what = "is named and not there" if known and name in known.names else "is there and not named"
            self.found(path, f"the suppression {name!r} {what}; the next build names those that are there", "names")

    def check_lock(self, path: Path) -> None:
        """Check a lock's seal, and every artifact that it names."""
        self.covered.add(path)
        self._count(path, path.stat().st_size)
        try:
            lock = Lock.load(path)
        except StoreError:
            raise
        except HeadraceError as error:
            self.found(path, str(error).removeprefix(f"{path}: "))
            return
        for step in lock.steps:
            made = self.check_artifact(self.store.artifact_folder(step.stage, step.key))
            if made is not None and (made.content, made.rows) != (step.content, step.rows):
                self.found(path, f"the artifact has the content id {made.content} and {made.rows} rows", step.label)


def _is_signed(data: bytes) -> bool:
    """Tell whether a record of any schema bears the digest of its fields."""
    fields: dict[str, Any] = json.loads(data)
    digest = fields.pop("digest", None)
    try:
        return bool(digest == digest_json(fields))
    except UnstableValueError:
        return False


def _place(data: bytes) -> str:
    """Return where a record stops being JSON, if it does."""
    try:
        json.loads(data)
    except UnicodeDecodeError as error:
        return f"byte {error.start}"
    except json.JSONDecodeError as error:
        return f"character {error.pos}"
    except ValueError:
        return "a number"
    return "fields"
