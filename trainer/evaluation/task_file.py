"""A task as data: a strict TOML file beside its data files, and what comes of it.

Examples of a few-shot prompt are drawn for each item by (seed, task, number of the item), so that a limit or another
order changes none of them; an item is never its own example.
"""

import json
import random
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Self

from pydantic import Field, field_validator, model_validator

from headrace.pipeline.errors import InputError, RecipeError
from headrace.pipeline.hashing import digest_file, digest_json
from headrace.pipeline.strict_toml import key_fault, load_toml, one_of
from headrace.trainer.evaluation.estimates import Estimate, as_record
from headrace.trainer.evaluation.items import Item, read_task_items
from headrace.trainer.evaluation.kinds.contract import Kind, kinds, make_kind
from headrace.trainer.evaluation.scorer import Scorer
from headrace.trainer.run_config import Section
from headrace.trainer.seeds import derive_seed


class TaskData(Section):
    """`[data]`: files of items, relative to the task file."""

    files: list[str] = Field(min_length=1)
    records: str = ""
    """Where a JSON file has its records, if it is not a list of them: keys joined by dots."""
    limit: int | None = Field(default=None, ge=1)


class FewShot(Section):
    """`[few_shot]`: how many examples stand before each item, and which files they are from."""

    count: int = Field(ge=1)
    seed: int = Field(default=0, ge=0)
    files: list[str] = []
    """By default the items' own."""
    separator: str = "\n\n"


class TaskFile(Section):
    """A whole task file."""

    name: str = Field(min_length=1)
    kind: str
    version: int = Field(default=1, ge=1)
    description: str = ""
    """What stands before everything else in a prompt."""
    data: TaskData
    few_shot: FewShot | None = None
    options: dict[str, Any]
    """Of the kind."""

    @field_validator("kind")
    @classmethod
    def _known_kind(cls, name: str) -> str:
        return one_of("kind of task", name, kinds())

    @model_validator(mode="after")
    def _kind_takes_its_options(self) -> Self:
        try:
            make_kind(self.kind, self.options)
        except RecipeError as error:
            raise key_fault("options", str(error)) from None
        return self


@dataclass(frozen=True)
class TaskResult:
    """What a model made of a task.

    Attributes:
        digest: of the task file's values and its data files; equal ones were the same task.
        num_items: items; `num_cut` prompts did not fit and lost tokens on the left.
    """

    name: str
    kind: str
    version: int
    digest: str
    num_items: int
    num_cut: int
    num_examples: int
    metrics: Mapping[str, Estimate]

    def report(self) -> dict[str, Any]:
        """Return all of it as JSON."""
        return {**vars(self), "metrics": {name: as_record(one) for name, one in self.metrics.items()}}


@dataclass(frozen=True)
class Task:
    """A task file with its items."""

    path: Path
    file: TaskFile

    @cached_property
    def kind(self) -> Kind:
        """How it is asked and counted."""
        return make_kind(self.file.kind, self.file.options)

    @cached_property
    def items(self) -> list[Item]:
        """What is asked."""
        data = self.file.data
        return read_task_items(self._beside(data.files), data.records, data.limit)

    @cached_property
    def examples(self) -> list[Item]:
        """What examples are drawn from."""
        few_shot, data = self.file.few_shot, self.file.data
        files = (few_shot.files if few_shot else []) or data.files
        return read_task_items(self._beside(files), data.records)

    def _beside(self, files: Sequence[str]) -> list[Path]:
        return [self.path.parent / file for file in files]

    @property
    def digest(self) -> str:
        """Digest of everything that the task is, its kind's version included."""
        few_shot = self.file.few_shot
        files = [*self.file.data.files, *(few_shot.files if few_shot else ())]
        body = self.file.model_dump(mode="json") | {"kind_version": self.kind.version}
        return digest_json(body | {"contents": [digest_file(path) for path in self._beside(files)]})

    def prompts(self) -> list[str]:
        """Return the prompt of each item, examples included."""
        return [self._prompt(item) for item in self.items]

    def check(self) -> None:
        """Raise `InputError` for an item that cannot be asked, or does not say what is right."""
        self.prompts()
        for item in self.items:
            self.kind.solution(item)

    def _prompt(self, item: Item) -> str:
        few_shot, question = self.file.few_shot, self.kind.question(item)
        if few_shot is None:
            return self.file.description + question
        shown = [self.kind.question(one) + self.kind.delimiter + self.kind.solution(one) for one in self.drawn(item)]
        return self.file.description + few_shot.separator.join([*shown, question])

    def drawn(self, item: Item) -> list[Item]:
        """Return the examples of an item.

        Raises:
            InputError: there are not so many.
        """
        few_shot = self.file.few_shot
        if few_shot is None:
            return []
        same = self._places.get(_spelled(item), [])
        others = len(self.examples) - len(same)
        if others < few_shot.count:
            raise InputError(
                f"{self.path}: few_shot.count = {few_shot.count}, but there are {others} examples beside the item"
            )
        seed = derive_seed(few_shot.seed, "few-shot", self.file.name, item.number)
        drawn = random.Random(seed).sample(range(others), few_shot.count)
        return [self.examples[_skipping(number, same)] for number in drawn]

    @cached_property
    def _places(self) -> dict[str, list[int]]:
        """Where each record is among the examples, ascending."""
        found: dict[str, list[int]] = {}
        for place, example in enumerate(self.examples):
            found.setdefault(_spelled(example), []).append(place)
        return found

    def run(self, scorer: Scorer) -> TaskResult:
        """Ask a model, and count."""
        before = scorer.encoder.num_cut
        metrics = self.kind.measure(scorer, self.items, self.prompts())
        few_shot = self.file.few_shot
        return TaskResult(
            name=self.file.name,
            kind=self.file.kind,
            version=self.file.version,
            digest=self.digest,
            num_items=len(self.items),
            num_cut=scorer.encoder.num_cut - before,
            num_examples=few_shot.count if few_shot else 0,
            metrics=metrics,
        )


def _spelled(item: Item) -> str:
    return json.dumps(item.record, sort_keys=True, default=str)


def _skipping(number: int, places: Sequence[int]) -> int:
    """Return the place that has a number where some places, ascending, are not counted."""
    for place in places:
        number += place <= number
    return number


def load_task(path: Path) -> Task:
    """Read a task file.

    Raises:
        InputError: it cannot be read.
        RecipeError: it is not TOML, or a key or value is wrong.
        MissingLibraryError: a metric that it names needs a library that is not installed.
    """
    return Task(path, load_toml(TaskFile, path))
