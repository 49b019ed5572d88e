"""A store that lies elsewhere, as a store of this machine: records are fetched when they are asked for, parts are not.

A mirror is a folder with `mirror.json`, which names the URL. Each manifest is fetched once, and again where files are
not what it says: a store that lost some and was built again has others, of the same rows. Suppressions are asked for
whenever the store is opened, by their names. What is made over a mirror (a stream index) lies in it, unless the store
has it already. Tables of a part that is not here are read where they are, by ranges.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import partial
from hashlib import sha256
from pathlib import Path
from typing import TypeVar

from headrace.pipeline.errors import InputError, IntegrityError, RemoteError, StoreError
from headrace.pipeline.hashing import digest_bytes
from headrace.pipeline.remote.files import RECORD, MirrorRecord, know
from headrace.pipeline.remote.folder import Patience, RemoteFolder, refuse_secrets
from headrace.pipeline.schema import Manifest, StoredFile, StoreRecord
from headrace.pipeline.store import MANIFEST, Store, replace, writing
from headrace.pipeline.suppressions import FOLDER as SUPPRESSIONS
from headrace.pipeline.suppressions import NAMES, Suppression, SuppressionNames

T = TypeVar("T")


@dataclass(frozen=True)
class MirrorStore(Store):
    """A folder that stands for the store at a URL."""

    remote: RemoteFolder = field(default=RemoteFolder(""), kw_only=True)

    def find_manifest(self, stage: str, key: str) -> Path | None:
        """Return where the manifest of an artifact is now, fetched if need be; None where the store has none."""
        relative = f"artifacts/{stage}/{key}/{MANIFEST}"
        path = self.root / relative
        if not path.exists():
            manifest = self._manifest(stage, key)
            if manifest is None:
                return None
            self.keep(path, manifest.render())
        return path

    def _manifest(self, stage: str, key: str) -> Manifest | None:
        """Return the manifest that the store has of an artifact now."""

        def right(data: bytes, where: str) -> Manifest:
            found = Manifest.parse(data, where)
            if (found.stage, found.key) != (stage, key):
                raise IntegrityError(f"{where}: it is the manifest of {found.stage} {found.key}")
            return found

        return self.fetch(f"artifacts/{stage}/{key}/{MANIFEST}", right)

    def renewed(self, manifest: Manifest) -> Manifest | None:
        """Return, and keep, what the store has in a manifest's place since it was built again; None where it was not.

        Its content is the same, its files are of other bytes.
        """
        found = self._manifest(manifest.stage, manifest.key)
        if found is None or found.parts == manifest.parts or found.content != manifest.content:
            return None
        self.keep(self.artifact_folder(found.stage, found.key) / MANIFEST, found.render())
        return found

    def bring(self, manifest: Manifest) -> None:
        """Fetch the files of a small artifact, whole, and compare each with its sha256; see `Store.bring`."""
        try:
            self._bring(manifest)
        except IntegrityError:
            renewed = self.renewed(manifest)
            if renewed is None:
                raise
            self._bring(renewed)

    def _bring(self, manifest: Manifest) -> None:
        folder = self.artifact_folder(manifest.stage, manifest.key)
        for part in manifest.parts:
            for file in part.files.values():
                path = folder / file.name
                if not (path.exists() and path.stat().st_size == file.bytes):
                    self.keep(path, self._whole(f"{self.relative(folder)}/{file.name}", file))

    def is_linked(self, manifest: Manifest) -> bool:
        """Tell whether the files of a published artifact, a small one, are here, or could be fetched."""
        try:
            self.bring(manifest)
        except InputError:
            return False
        return True

    def _whole(self, relative: str, file: StoredFile) -> bytes:
        def right(data: bytes, where: str) -> bytes:
            if digest_bytes(data) != file.sha256:
                raise IntegrityError(f"{where}: its bytes are not what the manifest's sha256 says")
            return data

        data = self.fetch(relative, right)
        if data is None:
            raise InputError(f"{self.remote.at(relative)}: it is gone; its manifest names it")
        return data

    def refresh(self) -> None:
        """Fetch the suppressions that were added to the store since, and those that are damaged here."""
        for name in self._suppressions():
            relative = f"{SUPPRESSIONS}/{name}.json"
            path = self.root / relative
            if path.exists() and _is_suppression(path):
                continue
            record = self.fetch(relative, partial(_suppression, name))
            if record is None:
                raise IntegrityError(f"{self.remote.at(relative)}: it is gone; {NAMES} names it; put it there again")
            self.keep(path, record.render())

    def _suppressions(self) -> Sequence[str]:
        """Return the names of all suppressions: from their list, or where the store has none by listing their folder.

        Raises:
            InputError: nothing tells whether there are any.
        """
        listed = self.fetch(NAMES, SuppressionNames.parse)
        if listed is not None:
            return listed.names
        try:
            names = self.remote.names(SUPPRESSIONS)
            why = "" if names or "store.json" in self.remote.names("") else "its folders are not listed"
        except (InputError, RemoteError) as error:
            names, why = [], str(error)
        if why:
            raise InputError(
                f"{self.remote.at(NAMES)}: there is no such file, and what was taken down cannot be found without it "
                f"({why}); a build of the store, or any `headrace suppress`, writes it: put it there"
            )
        return [name.removesuffix(".json") for name in names if name.endswith(".json") and not name.startswith(".")]

    def fetch(self, relative: str, right: Callable[[bytes, str], T]) -> T | None:
        """Return what a file's bytes are, None where there is none; what was damaged on the way is fetched once more.

        `right` is called with the bytes and the URL, and raises `IntegrityError` where they are not as they should be.
        """
        for _ in range(2):
            data = self.remote.read(relative)
            if data is None:
                return None
            try:
                return right(data, self.remote.at(relative))
            except IntegrityError as error:
                damage = error
        raise damage

    def keep(self, path: Path, data: bytes) -> None:
        """Write what was fetched; whatever a record says, nothing is written outside of the mirror."""
        if not path.is_relative_to(self.root) or ".." in path.relative_to(self.root).parts:
            raise IntegrityError(
                f"{self.remote.url}: a record of this store names {path}, which is no place in a store"
            )
        with writing(path):
            path.parent.mkdir(parents=True, exist_ok=True)
            replace(path, data)


def _suppression(name: str, data: bytes, where: str) -> Suppression:
    record = Suppression.parse(data, where)
    if record.name != name:
        raise IntegrityError(f"{where}: it is the suppression {record.name!r}, which has another place")
    return record


def _is_suppression(path: Path) -> bool:
    """Tell whether a suppression is here as it was written."""
    try:
        _suppression(path.stem, path.read_bytes(), str(path))
    except IntegrityError:
        return False
    return True


def mirror_of(manifest_url: str, cache: Path, patience: Patience) -> tuple[MirrorStore, Manifest]:
    """Open the store that a manifest at a URL lies in, through a mirror below `cache`; return both.

    Raises:
        InputError: it is no manifest of an artifact in a store, or is not there; or the URL has a password or a query.
        RemoteError: it cannot be read.
    """
    refuse_secrets(manifest_url)
    parts = manifest_url.removesuffix("/").removesuffix(f"/{MANIFEST}").split("/")
    if len(parts) < 4 or parts[-3] != "artifacts":
        raise InputError(
            f"{manifest_url}: no manifest of an artifact; write .../artifacts/<stage>/<key>/{MANIFEST} as in the store"
        )
    store = open_mirror("/".join(parts[:-3]), cache, patience)
    path = store.find_manifest(*parts[-2:])
    if path is None:
        raise InputError(f"{manifest_url}: there is no such manifest")
    return store, Manifest.load(path)


def open_mirror(url: str, cache: Path, patience: Patience) -> MirrorStore:
    """Open the store at a URL through a mirror below `cache`, made if there is none."""
    remote = RemoteFolder(url, patience)
    root = cache.absolute() / "stores" / sha256(url.encode()).hexdigest()[:16]
    store = MirrorStore(root, remote=remote)
    if not (root / RECORD).exists():
        record = store.fetch("store.json", StoreRecord.parse)
        if record is None:
            raise StoreError(f"{url}: is no store (it has no store.json)")
        store.keep(root / "store.json", record.render())
        store.keep(root / RECORD, MirrorRecord(url=url).render())
    know(root, remote)
    store.refresh()
    return store
