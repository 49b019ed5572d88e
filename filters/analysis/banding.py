"""Band keys of signatures, in one pass over them; see `filters.lsh` for what they are."""

import numpy as np

from headrace.filters.kernels import kernel

GOLDEN = np.uint64(0x9E3779B97F4A7C15)  # splitmix64 (Steele et al. 2014), a bijection that mixes every bit
_MIX_1 = np.uint64(0xBF58476D1CE4E5B9)
_MIX_2 = np.uint64(0x94D049BB133111EB)


@kernel(within=True)
def mix_bits(value):  # type: ignore[no-untyped-def]
    """Return splitmix64's last step: a bijection of 64 bits."""
    value = (value ^ (value >> np.uint64(30))) * _MIX_1
    value = (value ^ (value >> np.uint64(27))) * _MIX_2
    return value ^ (value >> np.uint64(31))


@kernel()
def fold_bands(signatures, bands, rows):  # type: ignore[no-untyped-def]
    """Return a key for each signature (a row) and band (a column)."""
    keys = np.empty((len(signatures), bands), np.uint64)
    for document in range(len(signatures)):
        for band in range(bands):
            key = mix_bits(np.uint64(band) + GOLDEN)
            for row in range(band * rows, band * rows + rows):
                key = mix_bits((key + GOLDEN) ^ np.uint64(signatures[document, row]))
            keys[document, band] = key
    return keys


@kernel()
def mix_all(values):  # type: ignore[no-untyped-def]
    """Return each number with its bits mixed."""
    mixed = np.empty(len(values), np.uint64)
    for place in range(len(values)):
        mixed[place] = mix_bits(np.uint64(values[place]))
    return mixed
