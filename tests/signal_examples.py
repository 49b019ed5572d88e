"""Signals that cannot be made without options, made with small files, so that the laws run over them too."""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from headrace.filters.contract import Signal, signal_classes
from tests.making import article


def _classifier(folder: Path) -> dict[str, Any]:
    lines = [f"__label__{label} {label} {article(seed, 3)}" for seed in range(20) for label in ("positive", "negative")]
    text = folder / "train.txt"
    text.write_text("\n".join(line.replace("\n", " ") for line in lines) + "\n", encoding="utf-8")
    model = train_fasttext(text, dim=4, bucket=100, wordNgrams=2)
    model.save_model(str(folder / "small.bin"))
    return pinned("model", folder / "small.bin")


def train_fasttext(path: Path, how: str = "train_supervised", **settings: Any) -> Any:
    """Train on a small file until it works: the library now and then reads memory that it has not set."""
    import fasttext

    for attempt in range(50):
        try:
            return getattr(fasttext, how)(str(path), thread=10, verbose=0, **settings)
        except RuntimeError:
            if attempt == 49:
                raise
    return None


def pinned(option: str, path: Path, digest: str = "sha256") -> dict[str, str]:
    """Return the options that name a file and its digest."""
    return {option: str(path), digest: sha256(path.read_bytes()).hexdigest()}


OPTIONS: dict[str, Callable[[Path], dict[str, Any]]] = {"classifier": _classifier}


@cache
def example_options(name: str) -> dict[str, Any]:
    """Return options that a signal can be made with: none for most."""
    return OPTIONS[name](Path(mkdtemp(prefix=f"headrace-{name}-"))) if name in OPTIONS else {}


def example(name: str) -> Signal:
    """Return a signal of that name."""
    signal: Signal = signal_classes()[name](**example_options(name))
    return signal
