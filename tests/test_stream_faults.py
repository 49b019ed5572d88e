"""What breaks under a stream is told in seconds, by name, and leaves nothing behind."""

import json
import shutil
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.errors import HeadraceError, IntegrityError, RecipeError
from headrace.pipeline.store import Store
from headrace.trainer.batch import IGNORE
from headrace.trainer.coverage import check_coverage
from headrace.trainer.iterate import Batches
from headrace.trainer.stream import Stream, open_stream
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.mending import Quarantined


@pytest.fixture
def tokens(tmp_path: Path) -> Path:
    lengths = np.random.default_rng(1).integers(1, 60, 400)
    return make_tokens(Store.open(tmp_path / "store"), lengths, 0, parts=4, vocabulary=600)


def config(tokens: Path, **changes: object) -> DataConfig:
    fields: dict[str, object] = {"corpora": [{"tokens": str(tokens)}], "sequence_length": 32, "global_batch": 8}
    return DataConfig.model_validate(fields | {"packing": "best_fit"} | changes)


def part(tokens: Path) -> Path:
    return sorted(tokens.parent.glob("*.parquet"))[1]


def until_it_breaks(tokens: Path) -> HeadraceError:
    stream = open_stream(config(tokens), 0)
    with pytest.raises(HeadraceError) as caught:
        [stream.batch(step) for step in range(200)]
    return caught.value


def change_a_byte(path: Path) -> None:
    data = bytearray(path.read_bytes())
    data[300] ^= 1
    path.unlink()  # the file is linked from two places
    path.write_bytes(data)


def test_a_changed_byte_is_found_on_first_use(tokens: Path) -> None:
    open_stream(config(tokens), 0)
    change_a_byte(part(tokens))
    error = until_it_breaks(tokens)
    assert isinstance(error, IntegrityError)
    assert part(tokens).name in str(error)
    assert "manifest's sha256" in str(error)


@pytest.mark.parametrize("harm", ["gone", "short", "empty"])
def test_a_part_that_is_lost_is_named(tokens: Path, harm: str) -> None:
    open_stream(config(tokens), 0)
    path = part(tokens)
    data = path.read_bytes()
    path.unlink()
    if harm != "gone":
        path.write_bytes(data[: len(data) // 2] if harm == "short" else b"")
    error = until_it_breaks(tokens)
    assert isinstance(error, IntegrityError)
    assert path.name in str(error)


def test_an_error_of_the_reading_thread_comes_out_once_and_again(tokens: Path) -> None:
    """A restored part is read at the next try: nothing remembers that it failed."""
    path = part(tokens)
    stream = open_stream(config(tokens), 0)
    shutil.move(path, path.with_suffix(".aside"))
    broken = next(step for step in range(200) if not _works(stream, step))
    assert not _works(stream, broken)
    shutil.move(path.with_suffix(".aside"), path)
    assert _works(stream, broken)
    assert np.array_equal(stream.batch(broken).tokens, open_stream(config(tokens), 0).batch(broken).tokens)


def _works(stream: object, step: int) -> bool:
    try:
        stream.batch(step)  # type: ignore[attr-defined]
    except IntegrityError:
        return False
    return True


# ------------------------------------------------------------------------------------------------------- replacement


def damaged_windows(stream: Stream, path: Path) -> set[int]:
    """Return the windows of a part, by number."""
    table = stream.tables[0]
    return {n for n in range(len(table)) if table._files[int(table._places["part"][n])].name == path.name}


def served(stream: Stream, steps: int) -> Counter[str]:
    return Counter(piece.doc_id for step in range(steps) for _, pieces in stream.pieces(step) for piece in pieces)


@pytest.mark.parametrize("packing", ["concat", "best_fit", "pad"])
@pytest.mark.parametrize("harm", ["changed", "gone"])
def test_damaged_windows_are_replaced_on_request(tokens: Path, harm: str, packing: str) -> None:
    whole = open_stream(config(tokens, packing=packing), 0)
    epoch = whole.sources[0].num_rows // 8
    sound = [whole.batch(step) for step in range(epoch)]
    rows = [whole.samples.find(8 * step, 8) for step in range(epoch)]
    path = part(tokens)
    lost = damaged_windows(whole, path)
    change_a_byte(path) if harm == "changed" else path.unlink()
    with pytest.raises(IntegrityError):
        [open_stream(config(tokens, packing=packing), 0).batch(step) for step in range(epoch)]
    mended = open_stream(config(tokens, packing=packing, damaged="replace"), 0)
    replaced = 0
    for step, located in enumerate(rows):
        batch = mended.batch(step)
        for row, slot in enumerate(located.slots):
            if located.windows[slot][1] in lost:
                replaced += 1
                assert (batch.targets[row] != IGNORE).any()
            else:
                assert np.array_equal(batch.tokens[row], sound[step].tokens[row])
    assert replaced
    assert {entry.window for entry in mended.quarantined} == lost
    assert path.name in mended.quarantined[0].why
    ids = set(served(mended, epoch))
    assert ids == served_ids(whole, lost)


def served_ids(stream: Stream, but: set[int]) -> set[str]:
    """Return the documents of all windows but some, from what is in memory."""
    table = stream.tables[0]
    return {
        table.read(number).doc_id(k)
        for number in range(len(table))
        if number not in but
        for k in range(len(table.layout(number).documents))
    }


def test_what_replaces_does_not_depend_on_the_world_or_the_way_there(tokens: Path) -> None:
    change_a_byte(part(tokens))
    data = config(tokens, damaged="replace")
    whole = open_stream(data, 0)
    batches = [whole.batch(step) for step in range(60)]
    for world in (2, 4):
        ranks = [open_stream(data, 0) for _ in range(world)]
        for step in reversed(range(60)):
            shares = [stream.batch(step, rank, world).tokens for rank, stream in enumerate(ranks)]
            assert np.array_equal(np.concatenate(shares), batches[step].tokens)


def test_a_run_goes_on_with_what_it_replaced_though_it_was_restored(tokens: Path) -> None:
    path = part(tokens)
    data = path.read_bytes()
    change_a_byte(path)
    first = Batches(config(tokens, damaged="replace"), 3)
    served_then = [batch.tokens.copy() for batch, _ in zip(first, range(80), strict=False)]
    state = json.loads(json.dumps([first.state_dict(), first.quarantined]))
    path.unlink()
    path.write_bytes(data)
    again = Batches(config(tokens), 3).load_state_dict(state[0], (), state[1])
    assert again.quarantined == first.quarantined
    assert all(np.array_equal(again.stream.batch(step).tokens, served_then[step]) for step in range(80))
    restored = open_stream(config(tokens), 3)
    assert not all(np.array_equal(restored.batch(step).tokens, served_then[step]) for step in range(80))


def test_a_mixture_keeps_its_shares_where_something_is_replaced(tokens: Path, tmp_path: Path) -> None:
    other = make_tokens(Store.open(tmp_path / "other"), np.full(300, 20), 1, vocabulary=600)
    corpora = [{"tokens": str(tokens), "weight": 3}, {"tokens": str(other), "weight": 1}]
    change_a_byte(part(tokens))
    stream = open_stream(config(tokens, corpora=corpora, damaged="replace"), 0)
    counts = np.zeros(2)
    for step in range(400):
        batch = stream.batch(step)
        np.add.at(counts, batch.sources, (batch.targets != IGNORE).sum(axis=1))
    assert stream.quarantined
    assert abs(counts[0] / counts.sum() - 0.75) < 0.02
    again = open_stream(config(tokens, corpora=corpora, damaged="replace"), 0)
    again.mend(stream.quarantined)
    assert np.array_equal(again.batch(399).tokens, stream.batch(399).tokens)


def test_a_stream_that_is_told_of_damage_is_as_one_that_always_knew(tokens: Path, tmp_path: Path) -> None:
    """What it remembers of rows, and windows that it holds, do not count any more."""
    other = make_tokens(Store.open(tmp_path / "other"), np.full(300, 20), 1, vocabulary=600)
    corpora = [{"tokens": str(tokens), "weight": 3}, {"tokens": str(other), "weight": 1}]
    told, knew = (open_stream(config(tokens, corpora=corpora, packing="pad"), 0) for _ in range(2))
    quarantined = [Quarantined(0, 0, 1, "gone")]
    knew.mend(quarantined)
    before = [told.batch(step).tokens.copy() for step in range(150)]
    told.mend(quarantined)
    assert all(np.array_equal(told.batch(step).tokens, knew.batch(step).tokens) for step in range(150))
    assert any(not np.array_equal(told.batch(step).tokens, before[step]) for step in range(150))


def test_what_was_trained_on_before_the_damage_stays(tokens: Path) -> None:
    """Batches, trace and exposure of earlier steps are of the window itself, though it was replaced later."""
    from headrace.trainer.exposure import exposure_of

    data = config(tokens, damaged="replace")
    whole = open_stream(data, 0)
    epoch = whole.sources[0].num_rows // 8 + 3
    before = [whole.batch(step).tokens.copy() for step in range(epoch)]
    pieces = [whole.pieces(step) for step in range(epoch)]
    path = part(tokens)
    sound = path.read_bytes()
    source = Batches(data, 0)
    list(zip(range(epoch), source, strict=False))
    state = json.loads(json.dumps(source.state_dict()))
    change_a_byte(path)
    again = Batches(data, 0).load_state_dict(state)
    after = [batch.tokens.copy() for batch, _ in zip(again, range(epoch), strict=False)]
    assert [entry.window for entry in again.quarantined] == [1]
    assert again.quarantined[0].step >= epoch
    path.unlink()
    path.write_bytes(sound)
    record = open_stream(data, 0)
    record.mend(again.quarantined)
    assert all(np.array_equal(record.batch(step).tokens, before[step]) for step in range(epoch))
    assert all(np.array_equal(record.batch(epoch + step).tokens, after[step]) for step in range(epoch))
    assert [record.pieces(step) for step in range(epoch)] == pieces
    window = record.tables[0].read(1)
    for doc_id in (window.doc_id(0), window.doc_id(5)):
        places = [
            (step, row, p.start, p.length)
            for step in range(epoch)
            for row, (_, some) in enumerate(pieces[step])
            for p in some
            if p.doc_id == doc_id
        ]
        found = exposure_of(record, [doc_id], 2 * epoch)
        assert [(one.step, one.row, one.start, one.length) for one in found] == sorted(places)
        assert places


def test_damage_before_a_run_leaves_no_need_to_read_what_was_lost(tokens: Path) -> None:
    """What a run was trained on is told though the part is still damaged: its window was never served."""
    from headrace.trainer.exposure import exposure_of

    path = part(tokens)
    data = config(tokens, damaged="replace")
    change_a_byte(path)
    run = open_stream(data, 0)
    epoch = run.sources[0].num_rows // 8
    pieces = [run.pieces(step) for step in range(epoch)]
    record = open_stream(config(tokens), 0)
    record.mend(run.quarantined)
    assert [record.pieces(step) for step in range(epoch)] == pieces
    doc_id = pieces[0][0][1][0].doc_id
    assert {one.step for one in exposure_of(record, [doc_id], epoch)} == {
        step for step in range(epoch) for _, some in pieces[step] if any(piece.doc_id == doc_id for piece in some)
    }


@pytest.mark.parametrize("packing", ["pad", "best_fit"])
def test_damage_on_the_way_leaves_nothing_that_only_this_process_knows(
    tokens: Path, tmp_path: Path, packing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A mixture whose windows do not fit into memory: what goes on and what resumes have the same batches."""
    from headrace.trainer.streaming.cache import WindowCache

    monkeypatch.setattr(WindowCache, "_remove_old", lambda cache: cache._held.popitem(last=False))
    monkeypatch.setattr(WindowCache, "expect", lambda cache, names: None)
    other = make_tokens(Store.open(tmp_path / "other"), np.full(1000, 20), 1, vocabulary=600)
    corpora = [{"tokens": str(tokens), "weight": 3}, {"tokens": str(other), "weight": 1}]
    data = config(tokens, corpora=corpora, packing=packing, damaged="replace", global_batch=16)
    path = part(tokens)
    sound = path.read_bytes()
    source, batches, states = Batches(data, 0), {}, {}
    for batch in source:
        if batch.step == 40:
            path.unlink()
        batches[batch.step] = batch.tokens.copy()
        if source.quarantined:
            states[batch.step + 1] = json.loads(json.dumps([source.state_dict(), source.quarantined]))
        if batch.step == 120:
            break
    path.write_bytes(sound)
    first = min(states)
    assert first - 1 in range(41, 110)
    for step in (first, first + 1, first + 7):
        again = Batches(data, 0).load_state_dict(states[step][0], (), states[step][1])
        assert all(np.array_equal(again.stream.batch(k).tokens, batches[k]) for k in range(0, 121, 3))
        assert all(np.array_equal(again.stream.batch(k).tokens, batches[k]) for k in range(first - 8, first + 8))


def test_a_state_knows_what_was_replaced(tokens: Path) -> None:
    """It goes on by itself, though the part was restored; where many windows were, with the list alone."""
    data, path = config(tokens, damaged="replace"), part(tokens)
    sound = path.read_bytes()
    clean = Batches(data, 0).state_dict()
    assert "quarantined" not in clean
    change_a_byte(path)
    source = Batches(data, 0)
    list(zip(range(50), source, strict=False))
    state = json.loads(json.dumps(source.state_dict()))
    assert len(json.dumps(state)) < 1024
    assert state["quarantined"]["length"] == 1
    expected = [batch.tokens.copy() for batch, _ in zip(source, range(60), strict=False)]
    path.unlink()
    path.write_bytes(sound)
    alone = Batches(data, 0).load_state_dict(state)
    assert [entry[:3] for entry in alone.quarantined] == [entry[:3] for entry in source.quarantined]
    assert all(np.array_equal(batch.tokens, e) for batch, e in zip(alone, expected, strict=False))
    named = state | {"quarantined": {name: state["quarantined"][name] for name in ("digest", "length")}}
    with pytest.raises(RecipeError, match="the state has 1 replaced windows, and the 0 given before step 50 are not"):
        Batches(data, 0).load_state_dict(named)
    told = Batches(data, 0).load_state_dict(named, (), source.quarantined)
    assert all(np.array_equal(batch.tokens, e) for batch, e in zip(told, expected, strict=False))
    with pytest.raises(RecipeError, match="the state has 0 replaced windows, and the 1 given before step 50 are not"):
        Batches(data, 0).load_state_dict(clean | {"samples_seen": 400}, (), source.quarantined)
    assert source.load_state_dict(clean).quarantined == ()


def test_coverage_is_of_what_a_run_is_given_in_place_of_damage(tokens: Path) -> None:
    data = config(tokens, damaged="replace")
    assert check_coverage(open_stream(data, 0), 40)[0].replaced == 0
    change_a_byte(part(tokens))
    stream = open_stream(data, 0)
    assert check_coverage(stream, 40)[0].replaced == 1
    assert [entry[:3] for entry in stream.quarantined] == [(0, 0, 1)]
    with pytest.raises(IntegrityError, match=part(tokens).name):
        check_coverage(open_stream(config(tokens), 0), 40)


def test_a_state_of_many_replaced_windows_stays_small(tokens: Path) -> None:
    stream = open_stream(config(tokens), 0)
    stream.mend(Quarantined(10**9 + k, 0, 10**6 + k, "gone") for k in range(40))
    for steps in (12, 13, 40):
        state = stream.state_dict(8 * (10**9 + steps))
        assert state["quarantined"]["length"] == steps
        assert len(json.dumps(state)) < 1024
        assert ("windows" in state["quarantined"]) == (steps <= 12)


def test_nothing_is_left_to_replace_with(tokens: Path) -> None:
    stream = open_stream(config(tokens, damaged="replace"), 0)
    for path in tokens.parent.glob("*.parquet"):
        path.unlink()
    with pytest.raises(IntegrityError, match="all of its windows are damaged"):
        stream.batch(0)


def test_exposure_finds_what_stood_in(tokens: Path) -> None:
    from headrace.trainer.exposure import exposure_of

    change_a_byte(part(tokens))
    stream = open_stream(config(tokens, damaged="replace"), 0)
    epoch = stream.sources[0].num_rows // 8
    pieces = [(step, row, p) for step in range(epoch) for row, (_, ps) in enumerate(stream.pieces(step)) for p in ps]
    often = Counter(piece.doc_id for _, _, piece in pieces).most_common(1)[0][0]
    expected = sorted((step, row, p.start, p.length) for step, row, p in pieces if p.doc_id == often)
    found = exposure_of(stream, [often], epoch)
    assert [(one.step, one.row, one.start, one.length) for one in found] == expected


LOOP = """
import json, os, signal, sys, time
from torch.utils.data import DataLoader
from headrace.trainer.dataset import Stream
if __name__ == "__main__":
    batches = iter(DataLoader(Stream(json.loads(sys.argv[1]), seed=1), batch_size=None, num_workers=2))
    next(batches)
    time.sleep(1)  # until workers wait: killed while torch hands over a tensor, one leaves that tensor in /dev/shm
    os.kill(batches._workers[0].pid, signal.SIGKILL)
    for batch in batches:
        pass
"""


def test_a_killed_worker_ends_the_loop_and_leaves_nothing(tokens: Path) -> None:
    before = set(Path("/dev/shm").iterdir())
    started = time.monotonic()
    command = [sys.executable, "-c", LOOP, config(tokens).model_dump_json()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert ran.returncode not in (0, None), ran.stderr
    told = (
        "is killed by signal: Killed",
        "exited unexpectedly",
        "Connection reset by peer",
        "EOFError",
    )  # as torch comes to know
    assert any(words in ran.stderr for words in told), ran.stderr
    assert time.monotonic() - started < 30
    assert set(Path("/dev/shm").iterdir()) <= before


SERVE = """
import hashlib, json, sys
from pathlib import Path
from headrace.trainer.iterate import Batches
from headrace.trainer.stream_config import DataConfig
from headrace.trainer.streaming.mending import Quarantined
data, folder, rank, world, steps = json.loads(sys.argv[1]), Path(sys.argv[2]), *map(int, sys.argv[3:])
source = Batches(DataConfig.model_validate(data), 5, rank, world)
state = folder / "state.json"
if state.exists():
    source.load_state_dict(json.loads(state.read_text()))
for batch in source:
    digest = hashlib.sha256(batch.tokens.tobytes() + batch.targets.tobytes()).hexdigest()
    with (folder / f"log-{rank}-{world}").open("a") as log:
        log.write(f"{batch.step} {digest}\\n")
    if world == 1:
        aside = folder / "aside.json"
        aside.write_text(json.dumps(source.state_dict()))
        aside.rename(state)
    if batch.step + 1 == steps:
        break
"""


def test_a_run_that_is_killed_goes_on_in_another_world(tokens: Path, tmp_path: Path) -> None:
    """SIGKILL at any moment; two ranks go on and together get the batches that one would have got."""
    import hashlib

    data, whole = config(tokens).model_dump_json(), open_stream(config(tokens), 5)
    for killed_after in (1, 7, 40):
        folder = tmp_path / f"killed-{killed_after}"
        folder.mkdir()
        first = subprocess.Popen([sys.executable, "-c", SERVE, data, str(folder), "0", "1", "1000000"])
        while not (log := folder / "log-0-1").exists() or len(log.read_text().splitlines()) < killed_after:
            time.sleep(0.005)
        first.kill()
        first.wait()
        done = whole.plan.step_of(json.loads((folder / "state.json").read_text())["samples_seen"])
        steps = done + 6
        for rank in range(2):
            arguments = [sys.executable, "-c", SERVE, data, str(folder), str(rank), "2", str(steps)]
            subprocess.run(arguments, check=True)
        shares = [(folder / f"log-{rank}-2").read_text().split() for rank in range(2)]
        for number, step in enumerate(range(done, steps)):
            for rank in range(2):
                batch = whole.batch(step, rank, 2)
                digest = hashlib.sha256(batch.tokens.tobytes() + batch.targets.tobytes()).hexdigest()
                assert shares[rank][2 * number : 2 * number + 2] == [str(step), digest]
        for line in (folder / "log-0-1").read_text().splitlines()[:done]:
            step, digest = int(line.split()[0]), line.split()[1]
            batch = whole.batch(step)
            assert hashlib.sha256(batch.tokens.tobytes() + batch.targets.tobytes()).hexdigest() == digest


def test_batches_are_numpy_without_torch(tokens: Path) -> None:
    code = (
        "import sys; sys.modules['torch'] = None; from pathlib import Path; import json; "
        "from headrace.trainer.iterate import Batches; "
        "print(next(iter(Batches(json.loads(sys.argv[1])))).tokens.shape)"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, config(tokens).model_dump_json()], capture_output=True, text=True, check=True
    )
    assert ran.stdout.strip() == "(8, 32)"
    assert next(iter(Batches(config(tokens)))).tokens.shape == (8, 32)


def test_the_record_of_a_run_names_what_was_replaced(tokens: Path, tmp_path: Path) -> None:
    """The checkpoint has it, so that the run goes on and is traced as it was, though the part was restored."""
    from headrace.trainer.relocate import open_recorded
    from headrace.trainer.run_config import RunFile
    from headrace.trainer.run_record import read_history, read_run
    from headrace.trainer.train import train

    path = part(tokens)
    data = path.read_bytes()
    change_a_byte(path)
    sections = {
        "run": {"name": "mended", "steps": 60, "device": "cpu"},
        "model": {"num_layers": 1, "num_heads": 1, "width": 8},
        "checkpoint": {"every": 30},
    }
    run = RunFile.model_validate(sections | {"data": config(tokens, damaged="replace").model_dump()}, strict=False)
    report = train(run, open_stream(run.data, 0), tmp_path / "run")
    assert report.step == 60
    history = read_history(tmp_path / "run")
    assert [entry.window for entry in history.quarantined] == [1]
    assert path.name in history.quarantined[0].why
    pieces = open_stream(run.data, 0).pieces(59)
    path.unlink()
    path.write_bytes(data)
    assert open_recorded(read_run(tmp_path / "run"), history=history).pieces(59) == pieces


def test_ranks_tell_each_other_what_they_replace(tokens: Path) -> None:
    from types import SimpleNamespace

    from headrace.trainer.session import Session

    streams = [open_stream(config(tokens), 0) for _ in range(2)]
    streams[0].mend([Quarantined(3, 0, 1, "cut short")])
    streams[1].mend([Quarantined(5, 0, 2, "gone"), Quarantined(7, 0, 0, "gone")])
    asked: list[list[list[float]]] = [[], []]

    def tell(rank: int, others: list[list[float]]) -> None:
        def total(values: list[float]) -> list[float]:
            asked[rank].append(list(values))
            number = len(asked[rank]) - 1
            return [a + b for a, b in zip(values, others[number], strict=True)]

        world = SimpleNamespace(rank=rank, size=2, sum=total)
        Session._share_quarantine(SimpleNamespace(source=streams[rank], world=world))  # type: ignore[arg-type]

    tell(0, [[0.0, 6.0], [0.0] * 3 + [5.0, 0.0, 2.0, 7.0, 0.0, 0.0]])
    tell(1, [[3.0, 0.0], [3.0, 0.0, 1.0] + [0.0] * 6])
    assert asked[0] == [[3.0, 0.0], [3.0, 0.0, 1.0] + [0.0] * 6]
    assert asked[1] == [[0.0, 6.0], [0.0] * 3 + [5.0, 0.0, 2.0, 7.0, 0.0, 0.0]]
    places = [[entry[:3] for entry in stream.quarantined] for stream in streams]
    assert places[0] == places[1] == [(3, 0, 1), (5, 0, 2), (7, 0, 0)]


RESUME = """
import json, sys, warnings
warnings.filterwarnings("ignore")
from torchdata.stateful_dataloader import StatefulDataLoader
from headrace.trainer.dataset import Stream
if __name__ == "__main__":
    def loader():
        return StatefulDataLoader(Stream(json.loads(sys.argv[1]), seed=3), batch_size=None, num_workers=3)
    for taken in (1, 2, 3, 4):
        first = loader()
        for number, batch in enumerate(first, 1):
            if number == taken:
                state = first.state_dict()
                break
        again = loader()
        again.load_state_dict(state)
        print(json.dumps([int(batch["step"]) for batch, _ in zip(again, range(5))]))
"""


def test_a_state_from_before_every_worker_gave_something(tokens: Path) -> None:
    command = [sys.executable, "-c", RESUME, config(tokens).model_dump_json()]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=200)
    assert ran.returncode == 0, ran.stderr
    found = [json.loads(line) for line in ran.stdout.splitlines()]
    assert found == [list(range(taken, taken + 5)) for taken in (1, 2, 3, 4)]
