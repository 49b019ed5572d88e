"""Runs in processes of their own, alone or as ranks, and their logs."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from headrace.trainer.metrics import TIMINGS, read_metrics


def log_of(out: Path) -> list[dict[str, Any]]:
    """Return the log of a run without what the clock wrote."""
    return [{k: v for k, v in record.items() if k not in TIMINGS} for record in read_metrics(out / "metrics.jsonl")]


def environment(**more: str) -> dict[str, str]:
    """Return the environment in which a module of the tests runs as a program."""
    return {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1]), **more}


def torchrun(module: str, out: Path, *options: str, ranks: int = 2) -> subprocess.CompletedProcess[str]:
    """Run a module on several ranks of this machine; it is given the folder."""
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", f"--nproc-per-node={ranks}", *options]
    return subprocess.run(
        [*command, "-m", module, str(out)], env=environment(), capture_output=True, text=True, check=False
    )
