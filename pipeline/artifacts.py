"""From stages to artifacts: what is missing is run, what is finished is read back and published.

`make` is the one way an artifact comes to be, for builds and for what training derives from them. It plans, asks the
store which tasks are committed, hands the rest to an engine in bundles, reads the commits back and publishes manifests,
each written last and only after its ledger adds up.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import pyarrow as pa

from headrace.pipeline.building import building
from headrace.pipeline.engines import Bundle, Engine
from headrace.pipeline.errors import HeadraceError, StoreError
from headrace.pipeline.schema import (
    TABLES,
    Commit,
    Ledger,
    Manifest,
    Part,
    StoredFile,
    Task,
    Upstream,
    artifact_key,
    combined_content,
)
from headrace.pipeline.stages.contract import Planning, Stage
from headrace.pipeline.store import MANIFEST, Store
from headrace.pipeline.tables import read_schema


class TaskError(HeadraceError):
    """A task failed; `detail` is the traceback where the failure was not an expected one."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(message)
        self.detail = detail


class NotCommittedError(StoreError):
    """A task that was planned was not committed, though nothing failed."""


@dataclass(frozen=True)
class Planned:
    """A stage with its tasks, named for people, and the artifacts that it reads."""

    label: str
    stage: Stage
    tasks: tuple[Task, ...]
    planning: Planning

    @property
    def key(self) -> str:
        """The key of the artifact that the tasks make."""
        return artifact_key(task.key for task in self.tasks)

    def missing(self) -> list[Task]:
        """Return the tasks that nobody has committed."""
        return [task for task in self.tasks if self.planning.store.find_commit(task) is None]


@dataclass(frozen=True)
class Progress:
    """How far a step is: tasks done of all, and how many of those were there before."""

    label: str
    done: int
    total: int
    cached: int


Watcher = Callable[[Progress], None]


def ignore_progress(progress: Progress) -> None:
    """Watch nothing."""


def make(planned: Sequence[Planned], engine: Engine, watch: Watcher = ignore_progress) -> list[Manifest]:
    """Make the artifacts of stages that can run side by side; return their manifests in order.

    Raises:
        TaskError: a task failed. What was committed stays, and is used by the next start.
    """
    store = planned[0].planning.store
    with building(store):
        _run(planned, engine, watch)
        return [publish(item) for item in planned]


def _run(planned: Sequence[Planned], engine: Engine, watch: Watcher) -> None:
    store = planned[0].planning.store
    missing = {task.key: task for item in planned for task in item.missing()}
    bundles: list[Bundle] = []
    for cls in dict.fromkeys(type(item.stage) for item in planned):
        bundles += cls.bundles([task for task in missing.values() if task.stage == cls.name])
    total, left = sum(len(item.tasks) for item in planned), len(missing)
    label, cached = ", ".join(item.label for item in planned), total - left
    watch(Progress(label, total - left, total, cached))
    if bundles:
        for outcome in engine.run(bundles, store.root):
            if outcome.error is not None:
                raise TaskError(outcome.error, outcome.detail)
            left -= len(outcome.bundle)
            watch(Progress(label, total - left, total, cached))


def make_one(label: str, stage: Stage, upstream: Mapping[str, Manifest], store: Store, engine: Engine) -> Manifest:
    """Make, or find, the artifact of one stage over others."""
    planning = Planning(store, upstream)
    planned = Planned(label, stage, tuple(stage.plan(planning)), planning)
    return _published(planned) or make([planned], engine)[0]


def _published(planned: Planned) -> Manifest | None:
    """Return the manifest of an artifact that is there with all its files, without a look at its tasks."""
    store = planned.planning.store
    known = store.find_manifest(planned.stage.name, planned.key)
    if known is not None and store.is_linked(manifest := Manifest.load(known)):
        return manifest
    return None


def publish(planned: Planned) -> Manifest:
    """Publish the artifact whose tasks are all committed; return its manifest."""
    store = planned.planning.store
    if (manifest := _published(planned)) is not None:
        return manifest
    commits = [_committed(task, store) for task in planned.tasks]
    manifest = _manifest(planned, commits)
    manifest.ledger.check(planned.label)
    return Manifest.load(store.publish(manifest, commits))


def _committed(task: Task, store: Store) -> Commit:
    commit = store.find_commit(task)
    if commit is None:
        raise NotCommittedError(f"{store.task_folder(task)}: the engine reported a task done that has no commit")
    return commit


def _manifest(planned: Planned, commits: Sequence[Commit]) -> Manifest:
    stage, upstream = planned.stage, planned.planning.upstream
    parts = tuple(_part(number, commit) for number, commit in enumerate(commits))
    tables = {
        table: combined_content([part.files[table] for part in parts], _schema(table, commits[0], planned))
        for table in (commits[0].files if commits else ())
    }
    main = [part.files[stage.table] for part in parts]
    return Manifest(
        stage=stage.name,
        name=planned.label,
        table=stage.table,
        key=planned.key,
        content=tables[stage.table],
        contents=tables,
        rows=sum(file.rows or 0 for file in main),
        config=stage.model_dump(mode="json", by_alias=True),
        resources=stage.resources(),
        inputs=tuple(
            Upstream(role=role, stage=upstream[role].stage, key=upstream[role].key, content=upstream[role].content)
            for role in stage.inputs()
            if role in upstream
        ),
        parts=parts,
        ledger=sum((commit.ledger for commit in commits), Ledger()),
        facts=_sum_facts(commits),
        provenance={"seconds": round(sum(float(commit.provenance.get("seconds", 0)) for commit in commits), 3)},
    )


def _part(number: int, commit: Commit) -> Part:
    files = {
        table: file.model_copy(update={"name": f"{table}-{number:05d}.{file.name.rpartition('.')[2]}"})
        for table, file in commit.files.items()
    }
    return Part(task=commit.key, inputs=commit.task.inputs, files=files, facts=commit.facts)


def _schema(table: str, commit: Commit, planned: Planned) -> pa.Schema | None:
    file: StoredFile = commit.files[table]
    if file.rows is None:
        return None
    if table in TABLES:
        return TABLES[table]
    return read_schema(planned.planning.store.task_folder(commit.task) / file.name)


_COUNTS = ("tokens", "crowded")


def _sum_facts(commits: Sequence[Commit]) -> dict[str, int | str]:
    """Return the facts of all parts: counts of a part's own added up, others as they are (all parts say the same)."""
    facts: dict[str, int | str] = {}
    for commit in commits:
        for name, value in commit.facts.items():
            facts[name] = int(facts.get(name, 0)) + int(value) if name in _COUNTS else value
    return facts


def manifest_path(manifest: Manifest, store: Store) -> str:
    """Return the path of a published manifest."""
    return str(store.artifact_folder(manifest.stage, manifest.key) / MANIFEST)
