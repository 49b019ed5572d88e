"""Large sets of strings as sorted 64-bit hashes, mapped from a file that is made once.

A set of n strings takes 8n bytes, shared by all processes that map it, and opens without reading a list. The price is
chance: a string that is not in the set is taken for a member with probability n / 2^64, which for five million entries
is 3e-13, or one in four thousand runs of a billion look-ups. Hashes are XXH3 without a seed, so somebody who owns a
name can make it collide with a listed one (and be dropped), but cannot make a listed name pass.

The file is a cache and never trusted: it bears the key of what it was made from and a checksum of its hashes, and what
does not fit is made again. It is never written in place, since a mapped file must not shrink. Where it cannot be
written the set lives in memory alone.
"""

import os
import secrets
import struct
from array import array
from collections.abc import Callable, Iterable
from contextlib import suppress
from pathlib import Path

import numpy as np
import numpy.typing as npt

Hashes = npt.NDArray[np.uint64]

_MAGIC = b"hrset\0\0\1"
_HEADER = struct.Struct("<8s32sQQ")
"""Magic with version, key, number of hashes, XXH3 of their bytes."""


def hash_strings(strings: Iterable[bytes]) -> Hashes:
    """Return the hash of each string, in order."""
    from xxhash import xxh3_64_intdigest

    return np.frombuffer(array("Q", map(xxh3_64_intdigest, strings)), dtype=np.uint64)


def contains(members: Hashes, hashes: Hashes) -> npt.NDArray[np.bool_]:
    """Return for each hash whether it is among the members, which are sorted."""
    if not len(members):
        return np.zeros(len(hashes), dtype=bool)
    places = np.minimum(np.searchsorted(members, hashes), len(members) - 1)
    return np.asarray(members[places] == hashes)


def open_set(name: str, key: str, strings: Callable[[], Iterable[bytes]]) -> Hashes:
    """Return the sorted hashes of the strings that `strings` gives, from the cache where it has them.

    `key` is 64 hex digits that name what the strings are made from; `name` is for people who look into the cache.
    """
    folder = set_folder()
    path = folder / f"{name}-{key[:16]}.hashes" if folder else None
    if path and (found := _map(path, key)) is not None:
        return found
    made = _sorted_set(hash_strings(strings()))
    if path and _write(path, key, made) and (found := _map(path, key)) is not None:
        return found
    return made


def set_folder() -> Path | None:
    """Return where the files are kept; None where there is no home."""
    try:
        return Path.home() / ".cache" / "headrace" / "lists"
    except RuntimeError:
        return None


def _sorted_set(hashes: Hashes) -> Hashes:
    """Return each hash once, sorted; `numpy.unique` does so too, ten times slower."""
    hashes = np.sort(hashes)
    first = np.ones(len(hashes), dtype=bool)
    np.not_equal(hashes[1:], hashes[:-1], out=first[1:])
    return np.asarray(hashes[first])


def _map(path: Path, key: str) -> Hashes | None:
    """Return the hashes of a file that is whole and has the key."""
    try:
        with path.open("rb") as file:
            magic, found_key, number, checksum = _HEADER.unpack(file.read(_HEADER.size))
        if magic != _MAGIC or found_key.hex() != key or path.stat().st_size != _HEADER.size + 8 * number:
            return None
        hashes = np.asarray(np.memmap(path, dtype="<u8", mode="r", offset=_HEADER.size, shape=(number,)))
    except (OSError, ValueError, struct.error):
        return None
    return hashes if _checksum(hashes) == checksum else None


def _write(path: Path, key: str, hashes: Hashes) -> bool:
    """Write a file aside and give it its name; returns whether that was possible."""
    temporary = path.with_name(f".{path.name}-{secrets.token_hex(8)}")
    data = hashes.astype("<u8", copy=False)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("xb") as file:
            file.write(_HEADER.pack(_MAGIC, bytes.fromhex(key), len(data), _checksum(data)))
            file.write(data.data)
        os.replace(temporary, path)
    except OSError:
        return False
    finally:
        with suppress(OSError):
            temporary.unlink(missing_ok=True)
    return True


def _checksum(hashes: Hashes) -> int:
    from xxhash import xxh3_64_intdigest

    return xxh3_64_intdigest(np.ascontiguousarray(hashes).data)
