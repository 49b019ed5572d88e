"""UTF-8 as kernels read it: one code point after the other, and what is true of each."""

import numpy as np

from headrace.filters.kernels import kernel


@kernel(within=True)
def decode(data, position):  # type: ignore[no-untyped-def]
    """Return the code point at a position of valid UTF-8, and its length."""
    lead = np.uint32(data[position])
    if lead < 0x80:
        return lead, 1
    second = np.uint32(data[position + 1]) & np.uint32(0x3F)
    if lead < 0xE0:
        return ((lead & np.uint32(0x1F)) << np.uint32(6)) | second, 2
    third = np.uint32(data[position + 2]) & np.uint32(0x3F)
    if lead < 0xF0:
        return ((lead & np.uint32(0x0F)) << np.uint32(12)) | (second << np.uint32(6)) | third, 3
    last = np.uint32(data[position + 3]) & np.uint32(0x3F)
    high = ((lead & np.uint32(0x07)) << np.uint32(18)) | (second << np.uint32(12))
    return high | (third << np.uint32(6)) | last, 4


@kernel(within=True)
def flags_of(code, index, pages):  # type: ignore[no-untyped-def]
    """Return the flags of a code point."""
    return pages[(np.int64(index[code >> np.uint32(8)]) << 8) + np.int64(code & np.uint32(255))]
