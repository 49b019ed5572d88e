"""Whether records agree: a manifest with its parts, with the commits of their tasks, and with what it was made from.

Nothing is read here. Parts and commits are compared by what they say of content, not by bytes or places: a task whose
files were deleted runs again, perhaps with another writer and from another folder, and makes the same content.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pyarrow as pa

from headrace.pipeline.damage import Damage
from headrace.pipeline.errors import HeadraceError
from headrace.pipeline.schema import (
    Commit,
    Ledger,
    Manifest,
    Part,
    StoredFile,
    TaskInput,
    artifact_key,
    combined_content,
)


def manifest_faults(manifest: Manifest, schemas: Mapping[str, pa.Schema | None]) -> Iterator[Damage]:
    """Yield what does not follow from the parts; tables whose schema is unknown (None) are passed over."""
    if manifest.key != artifact_key(part.task for part in manifest.parts):
        yield Damage("the key is not that of the parts' tasks", "key")
    for table, content in manifest.contents.items():
        files = [part.files[table] for part in manifest.parts if table in part.files]
        is_table = any(file.rows is not None for file in files)
        if (schemas[table] is not None or not is_table) and combined_content(files, schemas[table]) != content:
            yield Damage(f"the content id of table {table!r} is not that of its parts", f"contents.{table}")
    if manifest.content != manifest.contents.get(manifest.table):
        yield Damage(f"the content id is not that of table {manifest.table!r}", "content")
    if manifest.rows != sum(part.files[manifest.table].rows or 0 for part in manifest.parts):
        yield Damage("the number of rows is not the sum over its parts", "rows")
    yield from ledger_faults(manifest.ledger)


def ledger_faults(ledger: Ledger) -> Iterator[Damage]:
    """Yield what a ledger does not account for."""
    try:
        ledger.check("this record")
    except HeadraceError as error:
        yield Damage(str(error), "ledger")


def commit_faults(manifest: Manifest, commits: Sequence[Commit | None]) -> Iterator[Damage]:
    """Yield where parts are not what their tasks' commits say; a damaged commit (None) says nothing."""
    for number, (part, commit) in enumerate(zip(manifest.parts, commits, strict=True)):
        if commit is not None and _described(part, part.inputs) != _described(commit, commit.task.inputs):
            yield Damage(f"part {number} is not what the task's commit says", f"parts.{number}")
    whole = [commit.ledger for commit in commits if commit is not None]
    if len(whole) == len(commits) and sum(whole, Ledger()) != manifest.ledger:
        yield Damage("the ledger is not the sum of its tasks' ledgers", "ledger")


def input_faults(manifest: Manifest, sources: Sequence[Manifest | None]) -> Iterator[Damage]:
    """Yield where a manifest names other inputs than it was made from; a damaged one (None) says nothing."""
    contents: set[str] = set()
    for item, source in zip(manifest.inputs, sources, strict=True):
        if source is None:
            return
        if source.content != item.content:
            yield Damage(f"it was made from {item.role!r} with another content id", f"inputs.{item.role}")
        contents |= {file.content for part in source.parts for file in part.files.values()}
    roles = {item.role for item in manifest.inputs}
    for number, part in enumerate(manifest.parts):
        foreign = [item.path for item in part.inputs if item.role in roles and item.content not in contents]
        if foreign:
            yield Damage(f"part {number} was made from {foreign[0]}, which is of no input", f"parts.{number}")


def _described(made: Part | Commit, inputs: Sequence[TaskInput]) -> tuple[Any, ...]:
    """Return what a part and its task's commit must agree in."""
    origins = [(item.role, item.content, item.start, item.end) for item in inputs]
    return origins, {table: _named(file) for table, file in made.files.items()}, made.facts


def _named(file: StoredFile) -> tuple[str, int | None, str | None]:
    return file.content, file.rows, file.fold
