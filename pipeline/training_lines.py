"""Labelled lines in an order that their texts alone decide, each once, split into those to train on and those held out.

SGD needs its lines mixed, law 5 a mixture that nothing but content decides: lines are sorted by a hash of their text,
through files on disk, so that only a small part is in memory at once. Equal lines meet there: of those with one label
one stays, and a text that stands under both labels teaches nothing and goes.
"""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from hashlib import sha256
from itertools import groupby
from pathlib import Path

from headrace.pipeline.schema import Ledger, Tally
from headrace.pipeline.split import HELDOUT_UNIT

NUM_FILES = 256
_NAME = b"headrace classifier split 1\n"


@dataclass
class Split:
    """Two files of lines `__label__LABEL text`, what is in them by label, and where everything else went."""

    train: Path
    heldout: Path
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    ledger: Ledger = field(default_factory=Ledger)


def split_lines(lines: Iterable[tuple[str, str | None]], labels: Sequence[str], folder: Path, heldout: int) -> Split:
    """Write (label, line) pairs to two files in `folder`; `heldout` of 10,000 texts, chosen by hash, are held out.

    A line of None stands for a record that could not be read.
    """
    counts = {side: dict.fromkeys(labels, 0) for side in ("train", "heldout")}
    split = Split(folder / "train.txt", folder / "heldout.txt", counts)
    total, dropped = Tally(), dict.fromkeys(("unreadable", "empty", "same_text", "both_labels"), Tally())
    with ExitStack() as stack:
        files = [stack.enter_context((folder / f"{n:03d}").open("wb")) for n in range(NUM_FILES)]
        for label, line in lines:
            one = Tally(records=1, bytes=len((line or "").encode()))
            total += one
            if line:
                digest = sha256(_NAME + line.encode()).digest()
                files[digest[0]].write(f"{digest.hex()} {label} {line}\n".encode())
            else:
                dropped["unreadable" if line is None else "empty"] += one
    with split.train.open("wb") as train, split.heldout.open("wb") as held:
        for name, text, found in _each_text(folder):
            one = Tally(records=1, bytes=len(text))
            reason = "both_labels" if len(set(found)) > 1 else "same_text"
            for _ in found if reason == "both_labels" else found[1:]:
                dropped[reason] += one
            if reason == "same_text":
                is_held = int(name[:16], 16) * HELDOUT_UNIT < heldout << 64
                (held if is_held else train).write(b"__label__%b %b\n" % (found[0].encode(), text))
                counts["heldout" if is_held else "train"][found[0]] += 1
    gone = sum(dropped.values(), Tally())
    kept = Tally(records=total.records - gone.records, bytes=total.bytes - gone.bytes)
    reasons = {reason: tally for reason, tally in dropped.items() if tally.records}
    split.ledger = Ledger(input=total, kept=kept, dropped=reasons, output=kept)
    return split


def _each_text(folder: Path) -> Iterator[tuple[bytes, bytes, list[str]]]:
    """Yield each different line with its hash and the labels that it stands under, by hash; the files go."""
    for number in range(NUM_FILES):
        path = folder / f"{number:03d}"
        stored = sorted(path.read_bytes().split(b"\n")[:-1])
        path.unlink()
        parts = (item.split(b" ", 2) for item in stored)
        for digest, group in groupby(parts, lambda item: item[0]):
            members = list(group)
            yield digest, members[0][2], [label.decode() for _, label, _ in members]
