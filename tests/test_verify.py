"""Verify: one flipped byte anywhere in a store, and the file and the place in it are named."""

import json
import os
import random
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

import pyarrow as pa
import pytest

from headrace.pipeline.build import Built, build
from headrace.pipeline.engines import InlineEngine
from headrace.pipeline.errors import StoreError
from headrace.pipeline.hashing import digest_json
from headrace.pipeline.schema import Manifest, StoredFile
from headrace.pipeline.store import MANIFEST
from headrace.pipeline.tables import column_range, row_group_digests, write_table
from headrace.pipeline.verify import VerifyReport, verify
from tests.small_store import build_small, options, small_recipe


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    return build_small(tmp_path_factory.mktemp("verify"))


def files_of(root: Path) -> list[Path]:
    """Return the files of a store, one name for each."""
    found = {path.stat().st_ino: path for path in sorted(root.rglob("*")) if path.is_file()}
    return sorted(found.values())


def is_record(path: Path) -> bool:
    return path.suffix in (".json", ".toml") and not path.name.startswith("tokenizer-")


@contextmanager
def all_changed(before: Mapping[Path, bytes], change: Callable[[bytes], bytes]) -> Iterator[None]:
    """Change files in place, under all their names, for as long as the block lasts."""
    try:
        for path, data in before.items():
            path.write_bytes(change(data))
        yield
    finally:
        for path, data in before.items():
            path.write_bytes(data)


def changed(path: Path, data: bytes) -> AbstractContextManager[None]:
    return all_changed({path: path.read_bytes()}, lambda _: data)


def without(paths: Sequence[Path], root: Path) -> VerifyReport:
    """Return what is found while some files are away."""
    aside = {path: root.with_name(f"aside-{number}") for number, path in enumerate(paths)}
    for path, place in aside.items():
        path.rename(place)
    try:
        return verify(root)
    finally:
        for path, place in aside.items():
            place.rename(path)


def flipped(data: bytes, position: int, chance: random.Random | None = None) -> bytes:
    mask = chance.choice((1, 0x07, 0x20, 0x80, 0xFF)) if chance else 0x10
    return data[:position] + bytes([data[position] ^ mask]) + data[position + 1 :]


def places(report: VerifyReport, root: Path, path: Path) -> list[str]:
    """Return what a report says about a file."""
    name = path.relative_to(root).as_posix()
    return [f"{finding.what} | {finding.where}" for finding in report.findings if finding.path == name]


def test_a_whole_store_has_no_findings(built: Built) -> None:
    report = verify(built.store.root)
    assert report.ok
    assert report.findings == report.stray == ()
    assert report.files == len(files_of(built.store.root))
    assert report.artifacts == len(list(built.store.manifests()))


@pytest.mark.parametrize("records", [True, False], ids=["records", "data"])
def test_a_flipped_byte_is_found_in_every_file(built: Built, records: bool) -> None:
    """First, last, middle and random bytes, of all files of a kind at once; each file is named."""
    root, chance = built.store.root, random.Random(7)
    for share in (0, 1, 0.5, *(chance.random() for _ in range(17))):
        before = {path: path.read_bytes() for path in files_of(root) if is_record(path) == records}
        with all_changed(before, lambda data, at=share: flipped(data, int(at * (len(data) - 1)), chance)):
            report = verify(root)
        assert [path for path in before if not places(report, root, path)] == []
    assert verify(root).ok


@pytest.mark.parametrize("records", [True, False], ids=["records", "data"])
@pytest.mark.parametrize(
    "cut",
    [lambda data: data[:-1], lambda data: data[: len(data) // 2], lambda data: data + b" ", lambda data: b""],
    ids=["last byte gone", "half", "longer", "empty"],
)
def test_a_file_of_another_length_is_found(built: Built, cut: Callable[[bytes], bytes], records: bool) -> None:
    root = built.store.root
    before = {path: path.read_bytes() for path in files_of(root) if is_record(path) == records}
    with all_changed(before, cut):
        report = verify(root)
    assert [path for path in before if not places(report, root, path)] == []


@pytest.mark.parametrize("pattern", ["tasks/*/*/*/commit.json", "tasks/*/*/*/*-*", "artifacts/*/*/*-*"])
def test_deleted_files_are_found(built: Built, pattern: str) -> None:
    before = {path: path.read_bytes() for path in built.store.root.glob(pattern)}
    assert before
    report = without(list(before), built.store.root)
    assert [path for path in before if not places(report, built.store.root, path)] == []


def test_a_deleted_manifest_is_found(built: Built) -> None:
    """By what was made from it, or by the lock."""
    root = built.store.root
    for path in [*built.store.manifests(), root / "store.json"]:
        assert places(without([path], root), root, path), path


def test_what_may_be_deleted(built: Built) -> None:
    """What is remembered of raw inputs is learned anew, and nothing names a lock."""
    root = built.store.root
    assert without([*root.glob("inputs/*"), *root.glob("locks/*")], root).ok


def file_of(built: Built, role: str, table: str) -> tuple[Path, StoredFile]:
    """Return the first part of a table, and its record."""
    manifest = built.manifests[role]
    record = manifest.parts[0].files[table]
    return built.store.artifact_folder(manifest.stage, manifest.key) / record.name, record


def test_the_column_of_a_flipped_byte_is_named(built: Built) -> None:
    import pyarrow.parquet as pq

    path, _ = file_of(built, "corpus", "corpus")
    group, data = pq.read_metadata(path).row_group(0), path.read_bytes()
    named = set()
    for number in range(group.num_columns):
        column = group.column(number)
        start, end = column_range(column)
        with changed(path, flipped(data, end - 1)):
            found = places(verify(path.parent / MANIFEST), built.store.root, path)
        assert any(f"row group 0, column {column.path_in_schema} (bytes {start} to {end})" in what for what in found)
        named.add(column.path_in_schema)
    assert {"text", "doc_id", "origin.offset"} <= named


def test_head_and_footer_are_named(built: Built) -> None:
    path, record = file_of(built, "documents", "documents")
    data, groups_end = path.read_bytes(), max(group.offset + group.length for group in record.row_groups)
    for position, where in ((2, "first bytes"), (groups_end + 9, "footer"), (len(data) - 12, "footer")):
        with changed(path, flipped(data, position)):
            (found,) = places(verify(path.parent / MANIFEST), built.store.root, path)
        assert found.endswith(f"| {where}")


def test_the_row_group_is_named_among_several(tmp_path: Path) -> None:
    from headrace.pipeline.damage import find_damage

    path = tmp_path / "t.parquet"
    batch = pa.RecordBatch.from_pydict({"a.b": [f"some text {n}" for n in range(100)]})
    record = write_table(path, batch.schema, [batch], {}, row_group_bytes=300)
    assert len(record.row_groups) > 3
    assert find_damage(path, record) == []
    group = record.row_groups[2]
    path.write_bytes(flipped(path.read_bytes(), group.offset + group.length - 1))
    (damage,) = find_damage(path, record)
    assert damage.where.startswith("row group 2, column a.b")
    path.write_bytes(path.read_bytes()[: group.offset + 1])
    (damage,) = find_damage(path, record)
    assert damage.where == "from row group 2 on"


def test_a_record_that_was_wrong_from_the_beginning(tmp_path: Path) -> None:
    """Bytes that are as their record says, and rows that are not."""
    from headrace.pipeline.damage import find_damage

    path = tmp_path / "t.parquet"
    batch = pa.RecordBatch.from_pydict({"x": [1, 2, 3]})
    record = write_table(path, batch.schema, [batch], {})
    (damage,) = find_damage(path, record.model_copy(update={"fold": "0" * 64}))
    assert "rows fold to" in damage.what
    (damage,) = find_damage(path, record.model_copy(update={"content": "0" * 64}))
    assert "content id" in damage.what
    (damage,) = find_damage(path, record.model_copy(update={"row_groups": ()}))
    assert damage.where == "row group 0"
    (damage,) = find_damage(path, record.model_copy(update={"footer": "0" * 64}))
    assert damage.where == "footer"
    assert not find_damage(path, record.model_copy(update={"footer": None}))
    assert tuple(row_group_digests(path)) == record.row_groups


def forge(path: Path, **fields: object) -> bytes:
    """Return a manifest with other fields, signed anew as only a program could do."""
    manifest = Manifest.load(path)
    return manifest.model_validate({**dict(manifest), **fields, "digest": ""}).render()


@pytest.mark.parametrize(
    ("fields", "where"),
    [
        ({"rows": 1}, "rows"),
        ({"content": "0" * 64}, "content"),
        ({"contents": {"corpus": "0" * 64}}, "contents.corpus"),
        ({"key": "0" * 64}, "key"),
        ({"parts": ()}, "key"),
        ({"parts": ()}, "rows"),
    ],
)
def test_a_manifest_that_does_not_follow_from_its_parts(built: Built, fields: dict[str, object], where: str) -> None:
    path = Path(built.path("corpus"))
    with changed(path, forge(path, **fields)):
        assert where in {finding.where for finding in verify(path).findings}


def test_a_ledger_that_is_not_its_tasks(built: Built) -> None:
    path = Path(built.path("corpus"))
    ledger = built.corpus.ledger
    more = ledger.model_copy(update={"input": ledger.input + ledger.input})
    with changed(path, forge(path, ledger=more)):
        assert [finding.where for finding in verify(path).findings] == ["ledger", "ledger"]


def test_a_manifest_that_names_other_inputs(built: Built) -> None:
    path = Path(built.path("corpus"))
    first, *others = built.corpus.inputs
    with changed(path, forge(path, inputs=(first.model_copy(update={"content": "0" * 64}), *others))):
        assert {finding.where for finding in verify(path).findings} == {"inputs.documents"}
    with changed(path, forge(path, inputs=tuple(others))):
        assert verify(path).ok  # what it does not name is not asked for
    part = built.corpus.parts[0]
    foreign = tuple(item.model_copy(update={"content": "0" * 64}) for item in part.inputs)
    with changed(path, forge(path, parts=(part.model_copy(update={"inputs": foreign}), *built.corpus.parts[1:]))):
        found = verify(path).findings
    assert [finding.where for finding in found] == ["parts.0", "parts.0"]


def test_a_task_made_again_from_another_folder(tmp_path: Path) -> None:
    """Its commit names other places than the manifest does, and the same content."""
    built = build_small(tmp_path)
    commits = {path: path.read_bytes() for path in built.store.root.glob("tasks/read/*/*/commit.json")}
    for folder in [path.parent for path in commits]:
        shutil.rmtree(folder)
    (tmp_path / "inputs").rename(tmp_path / "moved")
    build(small_recipe(), built.store, InlineEngine(), options(tmp_path / "moved"))
    assert all(path.read_bytes() != data for path, data in commits.items())
    assert verify(built.store.root).findings == ()


def test_a_manifest_is_verified_with_all_it_was_made_from(built: Built) -> None:
    """Damage upstream is found from the tokens, damage elsewhere is not looked for."""
    tokens = Path(built.path("tokens"))
    for role in ("documents", "corpus", "tokenizer", "signals:c4"):
        path, _ = file_of(built, role, built.manifests[role].table)
        with changed(path, flipped(path.read_bytes(), path.stat().st_size // 2)):
            assert not verify(tokens).ok
            assert not verify(built.lock_path).ok
            assert not verify(tokens.parent).ok
    assert verify(tokens).ok
    with changed(tokens, b"{}"):
        assert verify(Path(built.path("corpus"))).ok
        assert not verify(built.lock_path).ok


def test_one_name_of_a_file_damaged_the_other_whole(built: Built, tmp_path: Path) -> None:
    """On a file system without links the two are files of their own."""
    path, _ = file_of(built, "corpus", "corpus")
    whole = tmp_path / "whole"
    path.rename(whole)
    path.write_bytes(flipped(whole.read_bytes(), 100))
    report = verify(built.store.root)
    whole.replace(path)
    assert {finding.path for finding in report.findings} == {built.store.relative(path)}


def test_files_that_nobody_names_are_stray_and_no_failure(built: Built) -> None:
    root = built.store.root
    commit = next(root.glob("tasks/cut/*/*"))
    stray = {
        commit / "corpus-0123456789abcdef.parquet": "no record names it",
        commit / ".commit.json-0123": "killed worker",
        root / "tasks/cut/00/0000/corpus-0123456789abcdef.parquet": "not finished",
        root / "notes.txt": "not a file of Headrace",
    }
    for path in stray:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(b"x")
    report = verify(root)
    for path in stray:
        path.unlink()
    shutil.rmtree(root / "tasks/cut/00", ignore_errors=True)
    assert report.ok
    notes = {item.path: item.note for item in report.stray}
    assert notes.keys() == {built.store.relative(path) for path in stray}
    assert all(note in notes[built.store.relative(path)] for path, note in stray.items())


def test_a_newer_store_is_refused_by_name(built: Built) -> None:
    """Only if the record is whole: a damaged version is damage."""
    for path in (built.store.root / "store.json", Path(built.path("corpus")), next(built.store.root.glob("inputs/*"))):
        fields = json.loads(path.read_bytes())
        del fields["digest"]
        fields["schema_version"] = 2
        newer = json.dumps({**fields, "digest": digest_json(fields)}).encode()
        with changed(path, newer), pytest.raises(StoreError, match="written with schema 2, this program knows 1"):
            verify(built.store.root)
        with changed(path, path.read_bytes().replace(b'"schema_version":1', b'"schema_version":9')):
            (found,) = places(verify(built.store.root), built.store.root, path)
            assert found.endswith("| schema_version")


def test_raw_inputs_only_where_asked(tmp_path: Path) -> None:
    built = build_small(tmp_path)
    path = tmp_path / "inputs" / "millet.txt"
    status = path.stat()
    path.write_bytes(flipped(path.read_bytes(), 3))
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert verify(built.store.root).ok
    (finding,) = verify(built.store.root, raw=True).findings
    assert finding.path == str(path)
    path.write_text("changed by its owner, who may")
    assert verify(built.store.root, raw=True).ok


def test_what_cannot_be_verified_is_refused(built: Built, tmp_path: Path) -> None:
    for path, message in (
        (tmp_path / "nowhere", "no such file"),
        (tmp_path, "lies in no store"),
        (built.store.root / "artifacts", "name a store"),
        (Path(built.path("corpus")).with_name("corpus-00000.parquet"), "name a store"),
    ):
        with pytest.raises(StoreError, match=message):
            verify(path)


def test_a_store_that_lost_its_record(built: Built, tmp_path: Path) -> None:
    record = built.store.root / "store.json"
    record.rename(tmp_path / "aside")
    report = verify(built.store.root)
    (tmp_path / "aside").rename(record)
    assert [finding.path for finding in report.findings] == ["store.json"]


def test_each_file_is_announced_once(built: Built) -> None:
    seen: list[str] = []
    report = verify(built.store.root, watch=seen.append)
    assert len(seen) == len(set(seen)) == report.files
