"""The laws of signals, as checks that anybody can run: `check_signal(MySignal())`.

What a rule decides must depend on the text alone: not on the batch that it came in, the process, the order of a set.
And a corpus holds every kind of text, so a signal has defined values for each, in time that grows with its length. A
signal that is quadratic in a long line does not fail a check but does not come back from it: run the checks under a
time limit. Headrace's own tests run each law over every registered signal.
"""

import json
import math
import os
import pickle
import re
import subprocess
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import fields, is_dataclass
from typing import Any

from headrace.filters.contract import Column, Signal, TextBatch
from headrace.filters.spans import Span, apply_spans

Values = dict[str, list[Any]]
Law = Callable[[Signal], None]

TYPES = {"int": int, "float": float, "bool": bool, "string": str, "spans": list, "hashes": bytes}
PROSE = "The mill stands by the river. It has been there for 200 years, and it works.\nThat is what we have to tell.\n"
TEXTS = (
    "",
    " \n\t\u3000",
    "\n" * 50,
    "x",
    PROSE,
    PROSE * 30,
    "- one\n- two\n• three\n…\n",
    "x" * 3_000,
    "a-" * 1_500,
    "(" * 1_000,
    "#" * 50 + " ... " * 20,
    "مرحبا بالعالم. هذا نص قصير؟\n" * 5,
    "שלום עולם! זה טקסט.\r\nעוד שורה אחת כאן.\u2028סוף",  # noqa: RUF001 - other scripts are the point
    "日本語の文章です。次の文です！\n",  # noqa: RUF001 - other scripts are the point
    "ภาษาไทยไม่มีช่องว่างระหว่างคำ",
    "e\u0301" * 20 + " a" + "\u0300\u0316" * 300 + " \u200d\u200b\ufeff",
    "👩\u200d👩\u200d👧 🏳\ufe0f\u200d🌈 𝕞𝕚𝕝𝕝 \U0010ffff \ufffd\ufffe",
    "\x00\x01 control \x85 next\x0b line\x1c end\x7f 🍷",
    "\u202eright to left\u202c and \u2066back\u2069 again",
    "mail me@example.net or 8.8.8.8, [12] not 10.0.0.1 {code} Lorem ipsum javascript",
)
URLS = (
    "",
    "https://www.example.org/a/b?c=d#e",
    "http://[::1",
    "no url",
    "HTTP://EXAMPLE.ORG:80/%zz",
    "http://münchen.de/ä",
)
PARTS = (
    *("a", "a-", "a.", "a@", "1.", "{ ", "a b ", "。", "\n", "x\n", " ", "\x00", "é", "\u0301", "https://a.b/", "#…"),
    *("水", "ก"),
)
"""What a hostile text repeats, a million times over."""

_NAME = re.compile(r"[a-z][a-z0-9_]*(:[A-Za-z][A-Za-z0-9_]*)?")
_COLUMN = re.compile(r"[a-z][a-z0-9_]*")


class LawError(AssertionError):
    """A signal breaks a law: which signal, which column, on which text, and what would be right."""


def check_signal(signal: Signal, hostile_bytes: int = 1 << 20) -> None:
    """Check a signal against every law; texts that repeat one part are about `hostile_bytes` long.

    Raises:
        LawError: the first law that it breaks.
    """
    for law in LAWS:
        law(signal)
    for part in PARTS:
        check_hostile(signal, part, hostile_bytes)


def measure(signal: Signal, texts: Sequence[str]) -> Values:
    """Measure texts, each with one of `URLS`; return plain lists, whatever the signal gives."""
    urls = [URLS[len(text) % len(URLS)] for text in texts]
    return {name: _plain(values) for name, values in signal.measure(TextBatch(texts, urls)).items()}


def _plain(values: Any) -> list[Any]:
    for method in ("to_pylist", "tolist"):  # of Arrow and of numpy
        if hasattr(values, method):
            return list(getattr(values, method)())
    return list(values)


def check_documentation(signal: Signal) -> None:
    """Signal, columns and module say what they are."""
    _require(bool((type(signal).__doc__ or "").strip()), signal, "its class has no docstring")
    module = sys.modules.get(type(signal).__module__)
    _require(
        bool((getattr(module, "__doc__", "") or "").strip()), signal, "its module has no docstring: name the source"
    )
    names = [column.name for column in signal.columns]
    _require(
        bool(names) and len(set(names)) == len(names), signal, f"its columns are {names}; it needs some, each once"
    )
    for column in signal.columns:
        _require(bool(_COLUMN.fullmatch(column.name)), signal, f"column {column.name!r} is no lower-case identifier")
        _require(
            column.kind in TYPES, signal, f"column {column.name!r} is of kind {column.kind!r}, not of {list(TYPES)}"
        )
        _require(bool(column.doc.strip()), signal, f"column {column.name!r} has no doc")


def check_identity(signal: Signal) -> None:
    """A name, a version, a frozen configuration of literal values: what a key is made of."""
    _require(bool(_NAME.fullmatch(signal.name)), signal, f"its name {signal.name!r} is no lower-case identifier")
    _require(
        type(signal.version) is int and signal.version >= 1, signal, f"its version is {signal.version!r}, not 1 or more"
    )
    cls: Any = type(signal)
    frozen = is_dataclass(cls) and getattr(cls, "__dataclass_params__").frozen  # noqa: B009 - unknown to type stubs
    _require(frozen, signal, "it is no frozen dataclass; write @dataclass(frozen=True)")
    options = {field.name: getattr(signal, field.name) for field in fields(cls)}
    try:
        json.dumps(options, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise LawError(f"signal {signal.name!r}: its options {options} are no literal values: {error}") from None
    again = cls(**options)
    _require(again == signal and hash(again) == hash(signal), signal, "two of the same options are not equal")


def check_resources(signal: Signal) -> None:
    """Names and versions or digests, the same each time."""
    resources: dict[Any, Any] = dict(signal.resources())
    for key, value in resources.items():
        _require(
            isinstance(key, str) and isinstance(value, str) and bool(value), signal, f"resource {key!r}: {value!r}"
        )
    _require(dict(signal.resources()) == resources, signal, "resources() gives something else the second time")


def check_kinds(signal: Signal) -> None:
    """Each column has a value of its kind, or None, for every text."""
    check_values(signal, TEXTS, measure(signal, TEXTS))


def check_batches(signal: Signal) -> None:
    """A text's values do not depend on the others in its batch, their order, or what was measured before."""
    together, backwards = measure(signal, TEXTS), measure(signal, TEXTS[::-1])
    for number, text in enumerate(TEXTS):
        alone = measure(signal, [text])
        for name, values in together.items():
            for other, where in ((alone[name][0], "alone"), (backwards[name][-1 - number], "in another order")):
                _require(
                    other == values[number],
                    signal,
                    f"{name} of {_shown(text)} is {values[number]!r}, {where} {other!r}",
                )
    _require(all(not values for values in measure(signal, []).values()), signal, "no text gives values")


def check_pickling(signal: Signal) -> None:
    """Signal and values travel to workers and back."""
    for what in (signal, measure(signal, TEXTS)):
        _require(pickle.loads(pickle.dumps(what)) == what, signal, f"{type(what).__name__} is another after pickling")


def check_other_process(signal: Signal) -> None:
    """A process of its own, with another seed of hashes, gives the same values."""
    check_other_process_for([signal])


def check_other_process_for(signals: Sequence[Signal]) -> None:
    """Check several signals in one process."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path)), "PYTHONHASHSEED": "4711"}
    code = "from headrace.filters.laws import _answer; _answer()"
    done = subprocess.run(
        [sys.executable, "-c", code], input=pickle.dumps(list(signals)), env=environment, capture_output=True
    )
    if done.returncode:
        raise LawError(
            f"{[signal.name for signal in signals]} fail in a new process:\n{done.stderr.decode(errors='replace')}"
        )
    for signal, found in zip(signals, pickle.loads(done.stdout), strict=True):  # of our own process, through a pipe
        here = measure(signal, TEXTS)
        for name, values in here.items():
            for text, one, other in zip(TEXTS, values, found[name], strict=True):
                _require(one == other, signal, f"{name} of {_shown(text)} is {one!r}, in another process {other!r}")


def _answer() -> None:
    signals = pickle.loads(sys.stdin.buffer.read())
    sys.stdout.buffer.write(pickle.dumps([measure(signal, TEXTS) for signal in signals]))


def check_surrogates(signal: Signal) -> None:
    """A lone surrogate, which has no UTF-8, is measured as U+FFFD, of the same length in bytes."""
    lone, mended = "The \ud800mill \udc00\ud800 stands.\n" * 3, "The \ufffdmill \ufffd\ufffd stands.\n" * 3
    _require(measure(signal, [lone]) == measure(signal, [mended]), signal, "a lone surrogate is not measured as U+FFFD")


def check_hostile(signal: Signal, part: str, num_bytes: int) -> None:
    """A long text of one part, as one line or as a million lines, has values of the right kinds."""
    text = part * (num_bytes // len(part.encode()))
    check_values(signal, [text], measure(signal, [text]))


def check_values(signal: Signal, texts: Sequence[str], values: Mapping[str, Sequence[Any]]) -> None:
    """Raise `LawError` unless the values are one per column and text, each of its column's kind."""
    names = [column.name for column in signal.columns]
    _require(list(values) == names, signal, f"measure() gives the columns {list(values)}, declared are {names}")
    for column in signal.columns:
        found = values[column.name]
        _require(len(found) == len(texts), signal, f"{column.name}: {len(found)} values for {len(texts)} texts")
        for text, value in zip(texts, found, strict=True):
            if value is not None:
                _check_value(signal, column, value, text)


def _check_value(signal: Signal, column: Column, value: Any, text: str) -> None:
    where = f"{column.name} of {_shown(text)}"
    _require(type(value) is TYPES[column.kind], signal, f"{where} is {value!r}, not of kind {column.kind!r}")
    if column.kind == "float":
        _require(math.isfinite(value), signal, f"{where} is {value!r}; undefined is None")
    if column.kind == "spans":
        _require(
            all(isinstance(span, Span) and span.label for span in value), signal, f"{where}: a span is a labelled Span"
        )
        _require(
            value == sorted(value, key=lambda span: span[:2]), signal, f"{where}: spans are not in order of offset"
        )
        try:
            apply_spans(text, value)
        except (ValueError, UnicodeError) as error:
            raise LawError(f"signal {signal.name!r}: {where}: {error}; spans are UTF-8 byte offsets") from None


def _shown(text: str) -> str:
    return repr(text) if len(text) <= 40 else f"{text[:37]!r}... ({len(text)} characters)"


def _require(holds: bool, signal: Signal, message: str) -> None:
    if not holds:
        raise LawError(f"signal {signal.name!r}: {message}")


LAWS: tuple[Law, ...] = (
    check_documentation,
    check_identity,
    check_resources,
    check_kinds,
    check_batches,
    check_pickling,
    check_surrogates,
    check_other_process,
)
