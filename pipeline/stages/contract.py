"""What a stage is: frozen config, `plan` from artifacts to tasks, `run` from a task to files.

A stage's fields are its whole configuration: literal values that go into its tasks' keys as they are. `plan` is called
where the build is driven and only looks at manifests; `run` is called wherever an engine puts it, on a stage rebuilt
from the task's config, and only sees the task and the store. A class becomes a stage by `@register`.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from pydantic import SerializerFunctionWrapHandler, model_serializer

from headrace.filters.registry import ClassRegistry
from headrace.pipeline.errors import StoreError
from headrace.pipeline.schema import Ledger, Manifest, StoredFile, Strict, Task, TaskInput
from headrace.pipeline.store import Store


@dataclass(frozen=True)
class RawFile:
    """One input file: its place, its path below the root of its glob, its size and the sha256 of its bytes."""

    path: Path
    relative: str
    size: int
    sha256: str


@dataclass(frozen=True)
class Planning:
    """What a stage may look at to plan: the store, the artifacts made so far by role, the raw files by source."""

    store: Store
    upstream: Mapping[str, Manifest] = field(default_factory=dict)
    files: Mapping[str, Sequence[RawFile]] = field(default_factory=dict)

    def part_inputs(self, role: str, table: str | None = None) -> list[TaskInput]:
        """Return one task input for each part of the artifact with that role (its main table if none is named)."""
        manifest = self.upstream[role]
        folder = self.store.artifact_folder(manifest.stage, manifest.key)
        inputs = []
        for part in manifest.parts:
            file = part.files[table or manifest.table]
            path = self.store.relative(folder / file.name)
            inputs.append(TaskInput(role=role, content=file.content, path=path, size=file.bytes))
        return inputs


@dataclass(frozen=True)
class Made:
    """What a task made: files by table, its ledger, and facts that later stages or people ask for."""

    files: dict[str, StoredFile]
    ledger: Ledger
    facts: dict[str, int | str] = field(default_factory=dict)


class Stage(Strict):
    """Base of all stages. `table` names the main table: the one that is the artifact's content."""

    name: ClassVar[str]
    version: ClassVar[int]
    table: ClassVar[str]
    added: ClassVar[tuple[str, ...]] = ()
    """Fields that came later: an empty one is left out of the config, so that keys are what they were."""

    @model_serializer(mode="wrap")
    def _leave_out_what_was_added(self, serialize: SerializerFunctionWrapHandler) -> dict[str, Any]:
        config: dict[str, Any] = serialize(self)
        return {name: value for name, value in config.items() if value or name not in self.added}

    def resources(self) -> dict[str, str]:
        """Name and version, or digest, of everything outside the config that can change a row."""
        return {}

    def inputs(self) -> tuple[str, ...]:
        """Roles of the artifacts that this stage reads."""
        raise NotImplementedError

    def plan(self, planning: Planning) -> list[Task]:
        """Return the tasks in row order; their keys follow from manifests alone."""
        raise NotImplementedError

    def run(self, task: Task, store: Store) -> Made:
        """Do one task: read its inputs from the store, write its files there, return what was made."""
        raise NotImplementedError

    @classmethod
    def bundles(cls, tasks: Sequence[Task]) -> list[tuple[Task, ...]]:
        """Group tasks that share work; a bundle runs in one worker, and each of its tasks commits for itself."""
        return [(task,) for task in tasks]

    @classmethod
    def run_bundle(cls, tasks: Sequence[Task], store: Store) -> Iterator[tuple[Task, Made]]:
        """Do the tasks of a bundle, one after the other."""
        for task in tasks:
            yield task, cls.of(task).run(task, store)

    @classmethod
    def of(cls, task: Task) -> "Stage":
        """Rebuild the stage that planned a task.

        Raises:
            StoreError: this process has other libraries or models than the one that planned.
        """
        stage = cls.model_validate(task.config, strict=False)
        here = stage.resources()
        if (cls.version, here) != (task.version, task.resources):
            raise StoreError(
                f"stage {cls.name}: the task was planned with version {task.version} and {task.resources}, "
                f"this worker has version {cls.version} and {here}; install the same versions everywhere"
            )
        return stage

    def task(self, inputs: Sequence[TaskInput], **config: Any) -> Task:
        """Return the task of this stage over `inputs`; `config` overrides fields for this task alone."""
        return Task(
            stage=self.name,
            version=self.version,
            config={**self.model_dump(mode="json", by_alias=True), **config},
            resources=self.resources(),
            inputs=tuple(inputs),
        )


def input_paths(task: Task, store: Store, role: str) -> list[Path]:
    """Return where a task's inputs of one role lie."""
    return [store.root / item.path for item in task.inputs if item.role == role]


STAGES = ClassRegistry("stage", "headrace.pipeline.stages")
register = STAGES.register
stage_classes = STAGES.all
