"""The face of Headrace: command line, public names, reports for people."""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from headrace.trainer.dataset import Stream

__all__ = ["Stream"]


def __getattr__(name: str) -> Any:
    """Load public names when they are first asked for; `Stream` is PyTorch's dataset, or an iterator without torch."""
    if name != "Stream":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib.util import find_spec

    if find_spec("torch") is None:
        from headrace.trainer.iterate import Batches

        return Batches
    from headrace.trainer.dataset import Stream

    return Stream
