"""Counts from kernels as the values of columns: integers as they are, ratios as one division of two of them."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Int64s = npt.NDArray[np.int64]


def ratios(parts: Int64s, wholes: Int64s) -> Sequence[float | None]:
    """Return parts / wholes, the same as Python divides them; None where the whole is 0."""
    defined = wholes != 0
    return defined_only(parts / np.where(defined, wholes, 1), defined)


def defined_only(values: npt.NDArray[np.number], defined: npt.NDArray[np.bool_]) -> Sequence[float | None]:
    """Return values as a list, with None where they are not defined."""
    listed: list[float | None] = values.tolist()
    for index in np.flatnonzero(~defined).tolist():
        listed[index] = None
    return listed
