"""datatrove's filters by name: `datatrove:GopherQualityFilter` is that class of datatrove 0.10, as a signal.

The filter's own code decides on a document that has the text and, in its metadata, the URL; what it decides is measured
and drops nothing until a rule says so. It gets a document for each text, so what it rewrites (C4's lines) stays with
it: `edited` says that it did. The options are the parameters of its constructor, with their types. A family, not a
list: what `datatrove.pipeline.filters` has can be named, but for those that `filters.datatrove_blocks` says cannot be
signals.
"""

import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import fields, make_dataclass
from functools import cache
from typing import Any, ClassVar

from headrace.filters.contract import SIGNALS, Column, Signal, TextBatch, by_column
from headrace.filters.datatrove_blocks import block_names, block_options, block_resources, open_block

PREFIX = "datatrove"

_FAULTS_OF_DATA = (ArithmeticError, AssertionError, AttributeError, LookupError, TypeError, ValueError)


class DatatroveFilter:
    """What a filter of datatrove decides about a text, and why."""

    name: ClassVar[str]
    version: ClassVar[int] = 1
    block: ClassVar[str]

    @property
    def columns(self) -> tuple[Column, ...]:
        """The decision, its reason, and whether the text would have gone on as it is."""
        return (
            Column("kept", "bool", "whether the filter keeps the document; null where it fails on it"),
            Column("reason", "string", "the filter's word for why it drops it, or the exception that it fails with"),
            Column("edited", "bool", "whether it rewrote the text that the next filter would see"),
        )

    @property
    def options(self) -> dict[str, Any]:
        """The arguments of the filter's constructor."""
        return {field.name: getattr(self, field.name) for field in fields(self)}  # type: ignore[arg-type]  # made below

    def resources(self) -> Mapping[str, str]:
        """Return the versions of datatrove and what it uses, and digests of model files; raises PluginError."""
        _opened(self)  # what is absent or refused is said before the first document
        return block_resources(self.block, self.options)

    def measure(self, batch: TextBatch) -> Mapping[str, Sequence[Any]]:
        """Return decisions; a document that the filter cannot judge (it raises) has none, and the exception's name."""
        block = _opened(self)
        pairs = zip(batch.texts, batch.urls, strict=True)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of numpy and others, about what datatrove does
            return by_column(self.columns, (_judge(block, text, url) for text, url in pairs))

    def __hash__(self) -> int:
        return hash((self.block, json.dumps(self.options)))  # arrays are lists where the constructor wants lists

    def __reduce__(self) -> tuple[Any, ...]:
        return _make, (self.block, self.options)


@cache
def _opened(signal: DatatroveFilter) -> Any:
    """Return the filter itself, opened once a process: its lists and models may be large."""
    return open_block(signal.block, signal.options)


def _judge(block: Any, text: str, url: str) -> tuple[bool | None, str | None, bool | None]:
    from datatrove.data import Document

    document = Document(text=text, id="", metadata={"url": url} if url else {})
    try:
        (result,) = block.filter_batch([document])
    except _FAULTS_OF_DATA as error:
        return None, type(error).__name__, None
    kept, reason = result if isinstance(result, tuple) else (result, None)
    return bool(kept), None if kept or reason is None else str(reason), document.text != text


@cache
def _signal_class(block: str) -> type[Signal]:
    """Return the signal of a filter: a frozen dataclass whose fields are its constructor's parameters."""
    namespace = {
        "name": f"{PREFIX}:{block}",
        "block": block,
        "__module__": __name__,
        "__doc__": f"What datatrove's {block} decides about a text, and why.",
        "__hash__": DatatroveFilter.__hash__,
    }
    options = block_options(block)
    return make_dataclass(block, options, bases=(DatatroveFilter,), namespace=namespace, frozen=True, kw_only=True)


def _make(block: str, options: Mapping[str, Any]) -> Signal:
    return _signal_class(block)(**options)


class DatatroveFilters:
    """The family of those signals."""

    prefix = PREFIX

    def names(self) -> list[str]:
        """Return the filters that can be signals; none where datatrove is not installed."""
        return block_names()

    def find(self, name: str) -> type[Any] | None:
        """Return the signal of a filter; raises PluginError where datatrove is absent or the filter cannot be one."""
        return _signal_class(name) if name in block_names(refuse=name) else None


SIGNALS.add_family(DatatroveFilters())
