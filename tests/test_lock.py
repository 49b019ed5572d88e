"""Locks: what a build resolved to, sealed; held to, nothing else is built."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headrace.pipeline.build import Built, build, plan
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import InputError, IntegrityError, LockError, StoreError
from headrace.pipeline.hashing import digest_bytes
from headrace.pipeline.lock import SEAL, Lock, LockedInput, LockedStep
from headrace.pipeline.schema import Manifest
from headrace.pipeline.store import Store
from headrace.pipeline.walk import BuildOptions
from tests.small_store import RECIPE, build_small, options, small_recipe, write_inputs

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
DIGESTS = st.text("0123456789abcdef", min_size=64, max_size=64)
COUNTS = st.integers(0, 2**63 - 1)
OPTIONS = st.fixed_dictionaries({}, optional={"sample": TEXT, "limit": COUNTS})
LOCKS = st.builds(
    Lock,
    schema_version=st.just(1),
    recipe=TEXT,
    options=OPTIONS,
    inputs=st.lists(
        st.builds(LockedInput, source=TEXT, relative=TEXT, size=COUNTS, sha256=DIGESTS), min_size=1, max_size=2
    ).map(tuple),
    steps=st.lists(
        st.builds(
            LockedStep,
            label=TEXT,
            stage=TEXT,
            version=COUNTS,
            key=DIGESTS,
            content=DIGESTS,
            rows=COUNTS,
            config=TEXT,
            resources=TEXT,
            inputs=TEXT,
        ),
        min_size=1,
        max_size=2,
    ).map(tuple),
)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_small(tmp_path_factory.mktemp("lock"))


@given(LOCKS)
def test_a_lock_is_read_as_it_was_written(tmp_path_factory: pytest.TempPathFactory, lock: Lock) -> None:
    path = tmp_path_factory.getbasetemp() / "any.lock.toml"
    path.write_bytes(lock.render())
    assert Lock.load(path) == lock
    assert Lock.load(path).render() == lock.render()


def test_a_lock_names_every_input_and_every_artifact(built: Built) -> None:
    lock = Lock.load(built.lock_path)
    assert lock == built.lock
    inputs = built.store.root.parent / "inputs"
    assert {(item.relative, item.sha256) for item in lock.inputs} == {
        (path.name, digest_bytes(path.read_bytes())) for path in inputs.iterdir()
    }
    for step in lock.steps:
        manifest = Manifest.load(built.store.artifact_folder(step.stage, step.key) / "manifest.json")
        assert (step.content, step.rows, step.label) == (manifest.content, manifest.rows, manifest.name)
    assert {step.key for step in lock.steps} == {Manifest.load(path).key for path in built.store.manifests()}
    assert len({step.label for step in lock.steps}) == len(lock.steps)


def test_a_lock_does_not_know_where_or_when(built: Built, tmp_path: Path) -> None:
    assert build_small(tmp_path).lock.render() == built.lock.render()
    assert str(built.store.root.parent) not in built.lock_path.read_text()


@pytest.mark.parametrize("position", [0, 0.1, 0.5, 0.9, 1])
def test_a_changed_byte_breaks_the_seal(built: Built, tmp_path: Path, position: float) -> None:
    data = bytearray(built.lock_path.read_bytes())
    data[round(position * (len(data) - 1))] ^= 1
    path = tmp_path / "changed.lock.toml"
    path.write_bytes(data)
    with pytest.raises(IntegrityError, match=r"changed\.lock\.toml: the lock was changed after it was written"):
        Lock.load(path)


def test_a_changed_end_of_line_is_a_changed_byte(built: Built, tmp_path: Path) -> None:
    path = tmp_path / "changed.lock.toml"
    for number in (1, 5):
        lines = built.lock_path.read_bytes().split(b"\n")
        path.write_bytes(b"\n".join(lines[:number]) + b"\r" + b"\n".join(lines[number:]))
        with pytest.raises(IntegrityError, match=r"changed\.lock\.toml"):
            Lock.load(path)


def sealed(text: str) -> bytes:
    return (text + SEAL + digest_bytes(text.encode()) + "\n").encode()


def test_a_newer_or_absent_lock_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "r.lock.toml"
    path.write_bytes(sealed("schema_version = 2\nrecipe = 'r'\n"))
    with pytest.raises(StoreError, match=r"r\.lock\.toml: written with schema 2, this program knows 1"):
        Lock.load(path)
    with pytest.raises(InputError, match="cannot be read"):
        Lock.load(tmp_path / "gone.lock.toml")


def locked(built: Built, lock: Lock, text: str = RECIPE, **more: int | float) -> Built:
    inputs = built.store.root.parent / "inputs"
    return build(small_recipe(text), built.store, InlineEngine(), options(inputs, **more), locked=lock)


def test_the_same_build_is_accepted(built: Built, tmp_path: Path) -> None:
    assert locked(built, built.lock).corpus.content == built.corpus.content
    elsewhere = build(
        small_recipe(),
        Store.open(tmp_path / "store"),
        InlineEngine(),
        options(write_inputs(tmp_path / "inputs")),
        locked=built.lock,
    )
    assert elsewhere.lock == built.lock


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (("min = 30", "min = 31"), r"step 'rules quality'.*config: rules\[0\]\.min 30\.0 -> 31\.0"),
        (('edits = ["c4.removed", "pii@c4.redactions"]', 'edits = ["c4.removed"]'), "step 'cut' is not what the lock"),
        (('name = "quality"', 'name = "other"'), "step 'rules other' is not in the lock; build without --locked"),
        (("vocab_size = 300", "vocab_size = 301"), "step 'tokenizer'.*vocab_size 300 -> 301"),
    ],
)
def test_another_recipe_is_refused_with_what_differs(built: Built, change: tuple[str, str], expected: str) -> None:
    with pytest.raises(LockError, match=expected):
        locked(built, built.lock, RECIPE.replace(*change))


def test_other_inputs_are_refused(built: Built, tmp_path: Path) -> None:
    inputs = write_inputs(tmp_path / "inputs")
    (inputs / "millet.txt").write_text("another text")
    with pytest.raises(LockError, match="step 'read' is not what the lock names: inputs"):
        build(small_recipe(), Store.open(tmp_path / "store"), InlineEngine(), options(inputs), locked=built.lock)


def test_another_content_is_refused(built: Built) -> None:
    """As where a library changed its results and not its version."""
    steps = tuple(
        step.model_copy(update={"content": "0" * 64}) if step.label == "cut" else step for step in built.lock.steps
    )
    with pytest.raises(LockError, match=r"step 'cut' came out with content .* the lock names 0000"):
        locked(built, built.lock.model_copy(update={"steps": steps}))


def test_samples_and_limits_have_locks_of_their_own(built: Built, tmp_path: Path) -> None:
    few = build_small(tmp_path, limit=4)
    assert few.lock_path.name == "small.limit-4.lock.toml"
    assert few.lock.options == {"limit": 4}
    assert locked(few, few.lock, limit=4).corpus.content == few.corpus.content
    assert BuildOptions(sample=0.25).lock_name("small") == "small.sample-0.25.lock.toml"
    with pytest.raises(LockError):
        locked(built, built.lock, limit=4)


def test_plan_says_what_differs_from_the_last_lock(built: Built) -> None:
    inputs = options(built.store.root.parent / "inputs")
    assert all(step.cached == step.tasks for step in plan(small_recipe(), built.store, inputs))
    steps = {
        step.label: step for step in plan(small_recipe(RECIPE.replace("min = 30", "min = 29")), built.store, inputs)
    }
    assert steps["rules quality"].why == "config: rules[0].min 30.0 -> 29.0"
    assert (steps["rules quality"].cached, steps["measure c4"].cached) == (0, steps["measure c4"].tasks)
    assert "minhash 4" not in steps


@given(st.dictionaries(TEXT, st.integers() | TEXT, max_size=3))
def test_identities_are_comparable_text(values: Mapping[str, Any]) -> None:
    from headrace.pipeline.hashing import canonical_json

    assert json.loads(canonical_json(values)) == values
