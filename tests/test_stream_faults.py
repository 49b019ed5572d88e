"""What breaks under a stream is told in seconds, by name, and leaves nothing behind."""

import json
import shutil
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.made_tokens import make_tokens
from headrace.pipeline.errors import HeadraceError, IntegrityError
from headrace.pipeline.store import Store
from headrace.trainer.iterate import Batches
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig


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


LOOP = """
import json, os, signal, sys
from torch.utils.data import DataLoader
from headrace.trainer.dataset import Stream
if __name__ == "__main__":
    batches = iter(DataLoader(Stream(json.loads(sys.argv[1]), seed=1), batch_size=None, num_workers=2))
    next(batches)
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
    told = ("is killed by signal: Killed", "exited unexpectedly", "Connection reset by peer")  # as torch comes to know
    assert any(words in ran.stderr for words in told), ran.stderr
    assert time.monotonic() - started < 30
    assert set(Path("/dev/shm").iterdir()) <= before


SERVE = """
import hashlib, json, sys
from pathlib import Path
from headrace.trainer.iterate import Batches
from headrace.trainer.stream_config import DataConfig
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
