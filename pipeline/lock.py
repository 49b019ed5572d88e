"""Locks: what a build resolved to. The recipe is the intent, the lock the outcome.

A lock names every raw input and every artifact by key and content. `build --locked` refuses to run a step whose key
the lock does not name, and to end with other contents; `plan` reads the lock of the last build to say why a step would
run again. The file is TOML, written in one way; its last line is the sha256 of all lines above.
"""

import json
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from headrace.pipeline.artifacts import Planned
from headrace.pipeline.errors import IntegrityError, LockError, StoreError
from headrace.pipeline.hashing import canonical_json, digest_bytes
from headrace.pipeline.schema import SCHEMA_VERSION, Count, Digest, Manifest, Strict, TaskInput
from headrace.pipeline.store import Store
from headrace.pipeline.strict_toml import decode, read_text

SEAL = "# sha256 of the lines above: "


class LockedInput(Strict):
    """A raw input: which source it belongs to, its path below the glob's root, and its bytes."""

    source: str
    relative: str
    size: Count
    sha256: Digest


class LockedStep(Strict):
    """A step of a build: what went into its key, and what came out."""

    label: str
    stage: str
    version: int
    key: Digest
    content: Digest
    rows: Count
    config: str
    resources: str
    inputs: str

    @classmethod
    def of(cls, planned: Planned, manifest: Manifest) -> "LockedStep":
        """Describe a step that was made."""
        return cls(
            label=planned.label,
            stage=planned.stage.name,
            version=planned.stage.version,
            key=manifest.key,
            content=manifest.content,
            rows=manifest.rows,
            **identity(planned),
        )


def identity(planned: Planned) -> dict[str, str]:
    """Return what a step's key is made of, in forms that can be compared: config, resources, contents of inputs."""
    return {
        "config": canonical_json(planned.stage.model_dump(mode="json", by_alias=True)),
        "resources": canonical_json(planned.stage.resources()),
        "inputs": canonical_json(_by_role([item for task in planned.tasks for item in task.inputs])),
    }


def _by_role(inputs: Sequence[TaskInput]) -> dict[str, str]:
    """Return one digest for each role: of the contents of that role's inputs, in order."""
    roles: dict[str, list[str]] = {}
    for item in inputs:
        roles.setdefault(item.role, []).append(item.content)
    return {role: digest_bytes("\n".join(contents).encode()) for role, contents in roles.items()}


class Lock(Strict):
    """The outcome of a build."""

    schema_version: int = SCHEMA_VERSION
    recipe: str
    options: dict[str, int | str]
    inputs: tuple[LockedInput, ...]
    steps: tuple[LockedStep, ...]

    def step(self, label: str) -> LockedStep | None:
        """Return the step of that label, if the build had one."""
        return next((step for step in self.steps if step.label == label), None)

    def check(self, planned: Planned) -> None:
        """Raise `LockError` unless the lock names this very step."""
        known = self.step(planned.label)
        if known is None:
            raise LockError(f"step {planned.label!r} is not in the lock; build without --locked to write a new one")
        if known.key != planned.key:
            raise LockError(
                f"step {planned.label!r} is not what the lock names: {explain_change(known, planned)}; "
                "build without --locked to accept it"
            )

    def check_content(self, label: str, manifest: Manifest) -> None:
        """Raise `LockError` unless a step came out as the lock says."""
        known = self.step(label)
        if known is not None and known.key == manifest.key and known.content != manifest.content:
            raise LockError(
                f"step {label!r} came out with content {manifest.content[:16]}, the lock names {known.content[:16]}; "
                "the same key must give the same rows, so something in this environment is not declared"
            )

    def render(self) -> bytes:
        """Return the lock as TOML, in its one rendering, sealed by its last line."""
        lines = [f"schema_version = {self.schema_version}", f"recipe = {_toml(self.recipe)}", "", "[options]"]
        lines += [f"{name} = {_toml(value)}" for name, value in sorted(self.options.items())]
        for section, items in (("inputs", self.inputs), ("steps", self.steps)):
            for item in items:
                lines += ["", f"[[{section}]]"]
                lines += [f"{name} = {_toml(value)}" for name, value in item.model_dump().items()]
        body = "\n".join(lines) + "\n\n"
        return (body + SEAL + digest_bytes(body.encode()) + "\n").encode()

    @classmethod
    def load(cls, path: Path) -> "Lock":
        """Read a lock.

        Raises:
            InputError: it cannot be read.
            IntegrityError: a byte of it was changed since a build wrote it.
        """
        text = read_text(path)
        body, _, seal = text.rpartition(SEAL)
        if seal != digest_bytes(body.encode()) + "\n":
            raise IntegrityError(f"{path}: the lock was changed after it was written; build again to write a new one")
        table = tomllib.loads(text)
        if table.get("schema_version", 0) > SCHEMA_VERSION:
            raise StoreError(
                f"{path}: written with schema {table['schema_version']}, this program knows {SCHEMA_VERSION}"
            )
        lock = decode(cls, table, str(path))
        if lock.render() != path.read_bytes():  # reading as text hides what became of the ends of lines
            raise IntegrityError(f"{path}: the lock's bytes are not those that were written")
        return lock


def locks_of(store: Store) -> list[Path]:
    """Return the locks of the builds that finished in a store, the last one first."""
    return sorted(
        store.root.glob("locks/*.lock.toml"), key=lambda path: (path.stat().st_mtime_ns, path.name), reverse=True
    )


def _toml(value: int | str) -> str:
    """Return a TOML integer or basic string; JSON's escapes are TOML's."""
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def explain_change(known: LockedStep, planned: Planned) -> str:
    """Say in words what differs between a step as it was and as it is now."""
    if known.version != planned.stage.version:
        return f"version of stage {planned.stage.name} {known.version} -> {planned.stage.version}"
    now = identity(planned)
    for what in ("config", "resources", "inputs"):
        old, new = json.loads(getattr(known, what)), json.loads(now[what])
        if old != new:
            return f"{what}: " + "; ".join(_differences(old, new, "")[:4])
    return "its tasks are cut differently"


def _differences(old: Any, new: Any, path: str) -> list[str]:
    """Return each leaf that differs, as `path old -> new`."""
    if isinstance(old, dict) and isinstance(new, dict):
        keys = dict.fromkeys([*old, *new])
        return [d for key in keys for d in _differences(old.get(key), new.get(key), f"{path}.{key}".lstrip("."))]
    if isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        pairs = enumerate(zip(old, new, strict=True))
        return [d for index, (a, b) in pairs for d in _differences(a, b, f"{path}[{index}]")]
    return [] if old == new else [f"{path} {_short(old)} -> {_short(new)}"]


def _short(value: Any) -> str:
    text = canonical_json(value)
    return text if len(text) <= 40 else text[:37] + "..."
