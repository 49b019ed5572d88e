"""The laws of signals, over everything in the registry: a new signal is tested without a test being written."""

import re
from dataclasses import dataclass, field
from itertools import count
from typing import Any, ClassVar

import pytest

from headrace.filters import laws
from headrace.filters.contract import Column, Signal, TextBatch, signal_classes
from headrace.filters.laws import LAWS, PARTS, LawError, check_hostile, check_other_process_for, check_signal
from headrace.filters.libraries import MissingLibraryError
from headrace.filters.models import ModelFileError
from headrace.filters.plugins import PluginError
from headrace.pipeline.errors import RecipeError
from headrace.pipeline.views import make_signal
from tests.signal_examples import example, example_options, examples_with_words_of_libraries

HERE = tuple(law for law in LAWS if law is not laws.check_other_process)  # which is asked once, for all signals
QUICK_BYTES, FULL_BYTES = 1 << 19, 10 << 20


@dataclass(frozen=True)
class Shouting:
    """What a plugin might measure: how many letters shout."""

    name: ClassVar[str] = "shouting"
    version: ClassVar[int] = 1

    mark: str = "!"

    @property
    def columns(self) -> tuple[Column, ...]:
        return (
            Column("upper_frac", "float", "capital letters, of all characters"),
            Column("num_marks", "int", "exclamation marks"),
        )

    def resources(self) -> dict[str, str]:
        return {}

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        shares = [sum(map(str.isupper, text)) / len(text) if text else None for text in batch.texts]
        return {"upper_frac": shares, "num_marks": [text.count(self.mark) for text in batch.texts]}


def usable(signal: Signal, kind: str = "") -> Any:
    """Return the signal as a parameter of a test, to be skipped aloud where a file that it needs is not here."""
    try:
        signal.resources()
    except (MissingLibraryError, ModelFileError, PluginError, RecipeError) as error:
        reason = str(error).splitlines()[0]
        return pytest.param(signal, marks=pytest.mark.skip(reason=reason), id=signal.name + kind)
    return pytest.param(signal, id=signal.name + kind)


SIGNALS = [
    *(usable(example(name)) for name in signal_classes()),
    *(usable(signal, ", words of libraries") for signal in examples_with_words_of_libraries()),
    pytest.param(Shouting(), id="a plugin"),
]


@pytest.mark.parametrize("law", HERE, ids=lambda law: law.__name__.removeprefix("check_"))
@pytest.mark.parametrize("signal", SIGNALS)
def test_every_signal_keeps_every_law(signal: Signal, law: laws.Law) -> None:
    law(signal)


def test_another_process_measures_the_same() -> None:
    check_other_process_for([signal.values[0] for signal in SIGNALS if not signal.marks])


@pytest.mark.parametrize("part", PARTS, ids=ascii)
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.timeout(100)
def test_a_long_text_of_one_part_comes_back(signal: Signal, part: str) -> None:
    """What is quadratic in the length of a text takes hours here, and ends at the time limit."""
    check_hostile(signal, part, QUICK_BYTES)


@pytest.mark.slow
@pytest.mark.parametrize("part", ["a", "\n", "a b ", "é. "], ids=ascii)
@pytest.mark.parametrize("signal", SIGNALS)
@pytest.mark.timeout(600)
def test_ten_megabytes_of_one_part_come_back(signal: Signal, part: str) -> None:
    check_hostile(signal, part, FULL_BYTES)


@pytest.mark.parametrize("name", signal_classes())
def test_signals_of_our_own_name_what_they_follow(name: str) -> None:
    """A paper or a tool: its year, version or number stands in the module's docstring."""
    cls = signal_classes()[name]
    module = __import__(cls.__module__, fromlist=["__doc__"])
    assert re.search(r"\d", module.__doc__ or ""), (
        f"{cls.__module__} names no source (paper and section, or tool and version)"
    )
    assert cls.name == name


# ------------------------------------------------------------------------------------- what the laws are there to find


@dataclass(frozen=True)
class Broken(Shouting):
    """Shouting, with one fault."""

    name: ClassVar[str] = "broken"


class Undocumented(Broken):
    pass


class Nan(Broken):
    """Gives NaN."""

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return super().measure(batch) | {"upper_frac": [float("nan")] * len(batch)}


class WrongKind(Broken):
    """Gives a float where an integer was declared."""

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return super().measure(batch) | {"num_marks": [1.0] * len(batch)}


class Forgetful(Broken):
    """Leaves out a value."""

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return {name: values[1:] for name, values in super().measure(batch).items()}


class LooksAround(Broken):
    """Knows how many texts came with this one."""

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return super().measure(batch) | {"num_marks": [len(batch)] * len(batch)}


class Counts(Broken):
    """Knows how often it was asked."""

    calls: ClassVar[Any] = count()

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return super().measure(batch) | {"num_marks": [next(self.calls) for _ in batch.texts]}


class OrderOfASet(Broken):
    """Depends on the seed of hashes of this process."""

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        return super().measure(batch) | {"num_marks": [hash(text) for text in batch.texts]}


@dataclass(frozen=True)
class Unhashable(Broken):
    """Has an option that is no literal value."""

    things: Any = field(default_factory=lambda: {1, 2})


class Thawed:
    """Is no frozen dataclass."""

    name, version, columns = "broken", 1, Shouting().columns


class Restless(Broken):
    """Has other resources each time."""

    calls: ClassVar[Any] = count()

    def resources(self) -> dict[str, str]:
        return {"call": str(next(self.calls))}


class Encodes(Broken):
    """Gives spans in characters, not in bytes."""

    @property
    def columns(self) -> tuple[Column, ...]:
        return (Column("removed", "spans", "the last character"),)

    def measure(self, batch: TextBatch) -> dict[str, list[Any]]:
        from headrace.filters.spans import Span

        return {"removed": [[Span(len(text) - 1, len(text), "end")] if text else [] for text in batch.texts]}


@pytest.mark.parametrize(
    ("cls", "message"),
    [
        (Nan, "undefined is None"),
        (WrongKind, "num_marks of '' is 1.0, not of kind 'int'"),
        (Forgetful, "upper_frac: 19 values for 20 texts"),
        (LooksAround, "num_marks of '' is 20, alone 1"),
        (Counts, "num_marks of '' is "),
        (OrderOfASet, "in another process"),
        (Unhashable, "no literal values"),
        (Restless, "something else the second time"),
        (Encodes, "spans are UTF-8 byte offsets"),
    ],
)
def test_a_broken_law_is_named_with_signal_column_and_text(cls: type[Signal], message: str) -> None:
    with pytest.raises(LawError, match="signal 'broken': ") as caught:
        check_signal(cls(), hostile_bytes=100)
    assert message in str(caught.value)


def test_what_is_not_documented_or_not_frozen_is_refused() -> None:
    Undocumented.__doc__ = None
    with pytest.raises(LawError, match="its class has no docstring"):
        check_signal(Undocumented())
    with pytest.raises(LawError, match="it is no frozen dataclass"):
        check_signal(Thawed())  # type: ignore[arg-type]  # the fault


def test_a_signal_that_keeps_the_laws_passes() -> None:
    check_signal(Shouting(mark="?"), hostile_bytes=1000)


def test_every_registered_signal_can_be_named_in_a_recipe() -> None:
    for name in signal_classes():
        assert make_signal(name, example_options(name)) == make_signal(name, example_options(name))
