"""Stretches of a file: runs of bytes, uncompressed or inflated, in which a format's records can be looked for.

An uncompressed file is one stretch. A compressed one gives a stretch per member, as the WARC standard asks (annex
D), and a member that does not begin with a record's head continues the stretch before it: so a whole-file gzip, a
block gzip and records cut across members are read too, their records sharing one extent. After a corrupt member the
next magic that inflates to a record's head starts anew. The extents of the stretches tile the file.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from hashlib import sha256
from typing import BinaryIO

from headrace.pipeline.readers.codecs import (
    FEED_BYTES,
    Codec,
    CorruptMemberError,
    is_skippable,
    known_codecs,
    read_dictionary,
)
from headrace.pipeline.readers.contract import Extent
from headrace.pipeline.readers.sources import (
    CHUNK_BYTES,
    BytesSource,
    FileSource,
    InflatedSource,
    Source,
    hash_range,
    inflate_member,
)

IsHead = Callable[[bytes], bool]
DETECT_BYTES = 1 << 24
WINDOW_BYTES = 1 << 13
BLANK = b"\x00 \t\r\n"


@dataclass(frozen=True)
class Stretch:
    """A run of bytes to parse.

    `stored` is where it lies, or None for an uncompressed file, in which every record has an extent of its own.
    `fault` names what is wrong with the whole of it (`truncated`, `corrupt_gzip`); a stretch of size 0 is a gap.
    """

    source: Source
    stored: Extent | None
    fault: str | None = None

    def extent(self, start: int, end: int) -> Extent:
        """Locate `[start, end)` of this stretch in the file."""
        if self.stored is None:
            return Extent(start, end - start, hash_range(self.source, start, end))
        inner = None if (start, end) == (0, self.source.size) else (start, end)
        return Extent(self.stored.offset, self.stored.length, self.stored.digest, inner)


class Inflated:
    """What a member inflates to: its size, its first piece, and all of it unless it is too large to hold."""

    def __init__(self, hold_bytes: int) -> None:
        self.size, self.head = 0, b""
        self._hold_bytes = hold_bytes
        self._pieces: list[bytes] = []

    def add(self, piece: bytes) -> None:
        """Take the next piece in, or forget all once there is too much."""
        self.head = self.head or piece
        self.size += len(piece)
        if self.size <= self._hold_bytes:
            self._pieces.append(piece)
        else:
            self._pieces.clear()

    @property
    def data(self) -> bytes | None:
        """All bytes, or None where they were not held."""
        return b"".join(self._pieces) if self.size <= self._hold_bytes else None


@dataclass(frozen=True)
class Member:
    """One compressed member as met: where it lies, what it inflates to, and what is wrong with it."""

    offset: int
    length: int
    digest: str
    inflated: Inflated
    fault: str | None


def iter_stretches(file: BinaryIO, is_head: IsHead, hold_bytes: int) -> Iterator[Stretch]:
    """Yield the stretches of a file in order; those that inflate to more than `hold_bytes` are not held in memory."""
    source = FileSource(file)
    codec = _detect_codec(source, is_head, _find_dictionary(getattr(file, "base", file)))
    if codec is None:
        yield Stretch(source, None)
        return
    group: list[Member] = []
    for member in _iter_members(source, codec, is_head, hold_bytes):
        if group and not _continues(group[-1], member, is_head):
            yield _join(source, codec, group, hold_bytes)
            group = []
        group.append(member)
    yield _join(source, codec, group, hold_bytes)


def _detect_codec(source: Source, is_head: IsHead, dictionary: bytes | None) -> Codec | None:
    """Return the codec of a file by its bytes, never by its name; its first member may be damaged."""
    codecs = known_codecs(dictionary)
    start = source.read_at(0, WINDOW_BYTES)
    if is_skippable(start):
        return codecs[-1]
    at_start = next((codec for codec in codecs if start.startswith(codec.magic)), None)
    if at_start or is_head(start):
        return at_start
    first = [(_find_member(source, 0, codec, is_head, DETECT_BYTES), codec) for codec in codecs]
    position, codec = min(first, key=lambda found: found[0])
    return codec if position < min(DETECT_BYTES, source.size) else None


def find_cuts(file: BinaryIO, is_head: IsHead, target: int) -> list[int]:
    """Return offsets, about `target` bytes apart, at which a compressed file can be cut into files of their own.

    Each is where a member begins that inflates to a record's head. None are found in an uncompressed file, where text
    that looks like a head may stand anywhere, nor in one whose records share a single member.
    """
    source = FileSource(file)
    codec = _detect_codec(source, is_head, _find_dictionary(file))
    if codec is None:
        return []
    cuts: list[int] = []
    for position in range(target, source.size - target // 2, target):
        if not cuts or cuts[-1] < position:
            cut = _find_member(source, position, codec, is_head)
            if cut == source.size:
                break
            cuts.append(cut)
    return cuts


def _find_dictionary(file: BinaryIO) -> bytes | None:
    source = FileSource(file)
    head = source.read_at(0, 8)
    return read_dictionary(source.read_at(0, _skippable_length(head))) if is_skippable(head) else None


def _skippable_length(head: bytes) -> int:
    return 8 + int.from_bytes(head[4:8], "little")


def _continues(before: Member, member: Member, is_head: IsHead) -> bool:
    broken = before.fault is not None or member.fault not in (None, "truncated")
    return not broken and not is_head(member.inflated.head)


def _join(source: Source, codec: Codec, group: list[Member], hold_bytes: int) -> Stretch:
    first, last = group[0], group[-1]
    end, size = last.offset + last.length, sum(member.inflated.size for member in group)
    digest = first.digest if first is last else hash_range(source, first.offset, end)
    stored = Extent(first.offset, end - first.offset, digest)
    if size <= hold_bytes:
        return Stretch(BytesSource(b"".join(member.inflated.data or b"" for member in group)), stored, last.fault)
    offsets = [member.offset for member in group]
    return Stretch(InflatedSource(source, offsets, codec, size, hold_bytes), stored, last.fault)


def _iter_members(source: Source, codec: Codec, is_head: IsHead, hold_bytes: int) -> Iterator[Member]:
    position = 0
    while position < source.size:
        head = source.read_at(position, 8)
        if is_skippable(head):
            end = min(position + _skippable_length(head), source.size)
            member = _gap(source, position, end, "skippable_frame")
        elif head.startswith(codec.magic):
            member = _read_member(source, position, codec, is_head, hold_bytes)
        else:
            member = _foreign(source, position, _find_member(source, position, codec, is_head))
        yield member
        position += member.length


def _read_member(source: Source, offset: int, codec: Codec, is_head: IsHead, hold_bytes: int) -> Member:
    inflater, inflated, digest = codec.open(), Inflated(hold_bytes), sha256()
    position = offset
    try:
        while not inflater.eof and (stored := source.read_at(position, FEED_BYTES)):
            for piece in inflater.feed(stored):
                inflated.add(piece)
            used = len(stored) - inflater.unused
            digest.update(stored[:used])
            position += used
    except CorruptMemberError:
        end = _find_member(source, offset + 1, codec, is_head)
        return Member(offset, end - offset, hash_range(source, offset, end), inflated, f"corrupt_{codec.name}")
    return Member(offset, position - offset, digest.hexdigest(), inflated, None if inflater.eof else "truncated")


def _find_member(source: Source, position: int, codec: Codec, is_head: IsHead, limit: int | None = None) -> int:
    """Return where the next member that inflates to a record's head starts, or the end of the file or the limit."""
    end = source.size if limit is None else min(limit, source.size)
    while position < end:
        chunk = source.read_at(position, CHUNK_BYTES)
        found = chunk.find(codec.magic)
        while found >= 0:
            if is_head(next(inflate_member(source, position + found, codec), b"")):
                return position + found
            found = chunk.find(codec.magic, found + 1)
        position += max(1, len(chunk) - len(codec.magic) + 1)
    return end


def _foreign(source: Source, start: int, end: int) -> Member:
    blank = all(
        not source.read_at(at, min(CHUNK_BYTES, end - at)).strip(BLANK) for at in range(start, end, CHUNK_BYTES)
    )
    return _gap(source, start, end, "padding" if blank else "garbage")


def _gap(source: Source, start: int, end: int, reason: str) -> Member:
    return Member(start, end - start, hash_range(source, start, end), Inflated(0), reason)
