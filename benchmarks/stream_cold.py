"""Cold from an S3 server: `python -m benchmarks.stream_cold --peers PYTHON [--tokens N] [--rounds N] [--json]`.

Ours and mosaicml-streaming read the same tokens from the same server on this machine, in turn, a new process a round
with an empty cache: seconds until the first batch of 32 x 1,024, and million tokens a second from the start until an
epoch is read (`import` of either is not counted). Ours is packed by best fit, with masks and positions; the peer has
rows of 1,025 tokens as they are, shuffled. The server is moto (another one: `--endpoint`), restarted for each round.
The store has the stream index, as the peer's folder has its own, unless `--no-index` is given.
Figures are medians of rounds, `spread` is the range of the rounds' ratios.
"""

import json
import os
import socket
import subprocess
import sys
import time
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks.made_tokens import made_lengths, make_tokens
from benchmarks.stream import LENGTH, ROWS, as_arrays, config, print_rows, row
from headrace.pipeline.store import Store
from headrace.trainer.stream import open_stream

_SETTINGS = {"AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_DEFAULT_REGION": "us-east-1"}
_OURS = """
import json, sys, time
from headrace.trainer.stream import open_stream
from headrace.trainer.stream_config import DataConfig
import s3fs
start = time.perf_counter()
stream = open_stream(DataConfig.model_validate_json(sys.argv[1]), 0)
stream.batch(0)
first = time.perf_counter()
steps = stream.sources[0].num_rows // 32
for step in range(steps):
    stream.batch(step)
print(json.dumps([first - start, time.perf_counter() - start, steps]))
"""


@contextmanager
def server(endpoint: str | None) -> Iterator[str]:
    """Give the address of an S3 server, one of our own if none is named."""
    if endpoint:
        yield endpoint
        return
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        for _ in range(300):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            time.sleep(0.1)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait()


def run(command: Sequence[str], endpoint: str) -> list[float]:
    environment = {**os.environ, **_SETTINGS, "AWS_ENDPOINT_URL": endpoint, "S3_ENDPOINT_URL": endpoint}
    done = subprocess.run(command, capture_output=True, text=True, env=environment, timeout=600)
    if done.returncode:
        raise SystemExit(done.stderr[-3000:])
    found: list[float] = json.loads(done.stdout.splitlines()[-1])
    return found


def rounds(options: Namespace, folder: Path) -> Iterator[tuple[list[float], list[float]]]:
    """Yield what each round measured: ours and the peer's [first batch, whole epoch, steps]."""
    import s3fs

    manifest = make_tokens(Store.open(folder / "store"), made_lengths(options.tokens, 0), 0)
    if options.index:
        open_stream(config([manifest]), 0)
    as_arrays(manifest, folder)
    script = str(Path(__file__).with_name("stream_peers.py"))
    subprocess.run([options.peers, script, "mosaicml-streaming", "prepare", str(folder)], check=True)
    place = f"s3://bench/store/{manifest.relative_to(folder / 'store').as_posix()}"
    for number in range(options.rounds):
        with server(options.endpoint) as endpoint:
            os.environ.update(_SETTINGS)
            system = s3fs.S3FileSystem(endpoint_url=endpoint, skip_instance_cache=True)
            system.mkdir("bench")
            for name in ("store", "mds"):
                system.put(str(folder / name), f"bench/{name}", recursive=True)
            data = {
                "corpora": [{"tokens": place}],
                "sequence_length": LENGTH,
                "global_batch": ROWS,
                "packing": "best_fit",
                "remote": {"cache": str(folder / f"cache-{number}")},
            }
            ours = run([sys.executable, "-c", _OURS, json.dumps(data)], endpoint)
            theirs = run([options.peers, script, "mosaicml-streaming", "cold", str(folder), str(number)], endpoint)
            yield ours, theirs


def _speed(measured: Sequence[float]) -> float:
    """Return million tokens a second of an epoch."""
    _, seconds, steps = measured
    return steps * ROWS * LENGTH / seconds / 1e6


def main(arguments: Sequence[str]) -> None:
    """Print the figures as a table, or as JSON."""
    parser = ArgumentParser(prog="python -m benchmarks.stream_cold")
    parser.add_argument("--peers", required=True, help="Python of the peers' environment (`make bench-env`)")
    parser.add_argument("--tokens", type=int, default=50_000_000)
    parser.add_argument("--endpoint", help="an S3 server that runs, with no bucket `bench`, and --rounds 1")
    parser.add_argument("--no-index", dest="index", action="store_false", help="the store has no stream index yet")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args(arguments)
    with TemporaryDirectory(ignore_cleanup_errors=True) as name:
        found = list(rounds(options, Path(name)))
    firsts = [(ours[0], peer[0]) for ours, peer in found]
    speeds = [(_speed(ours), _speed(peer)) for ours, peer in found]
    print_rows(
        [
            row("first batch, nothing cached", firsts, 1.0, "seconds", larger_is_better=False),
            row("an epoch, nothing cached", speeds, 1.0),
        ],
        as_json=options.json,
    )


if __name__ == "__main__":
    main(sys.argv[1:])
