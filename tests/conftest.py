"""Fixtures that every test may use."""

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings

if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    # a shell has what it starts in the background ignore Ctrl-C, and so would the commands that tests interrupt
    signal.signal(signal.SIGINT, signal.default_int_handler)

# One thread for torch, here and in the processes that tests start: fastest for the smallest models, the same
# everywhere, and tests side by side do not wait for each other's threads. It is read when torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"

settings.register_profile("headrace", deadline=None)  # a busy machine is slow, not wrong
settings.load_profile("headrace")


@pytest.fixture(scope="session")
def real_data() -> Path:
    """Folder of real crawls, books and labelled sets beside the checkout; absent elsewhere, and then skipped aloud."""
    path = Path(__file__).resolve().parents[2] / "shared" / "data"
    if not path.is_dir():
        pytest.skip("real data (../shared/data) is not on this machine")
    return path
