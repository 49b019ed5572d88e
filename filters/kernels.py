"""How kernels are compiled: by numba, without fast-math, cached on disk beside their source.

A compiled kernel holds the code of those that it calls, from other files too, but numba makes a cached one anew only if
its own file has changed. Here what is cached is bound to all the source files of a folder, so that no mixture of an old
and a new version can ever run.
"""

from collections.abc import Callable
from functools import cache
from hashlib import sha256
from pathlib import Path
from typing import Any

from llvmlite import ir
from numba import njit, types
from numba.core.caching import FunctionCache, IndexDataCacheFile
from numba.core.cgutils import get_item_pointer, raw_memcpy
from numba.extending import intrinsic


class _FolderCache(FunctionCache):
    """A function's cache that is stale when any source file in the function's folder has changed."""

    def __init__(self, function: Callable[..., Any]) -> None:
        super().__init__(function)  # type: ignore[no-untyped-call]
        stamp = _folder_digest(Path(function.__code__.co_filename).parent)
        place = self._cache_path, self._impl.filename_base
        self._cache_file = IndexDataCacheFile(*place, stamp)  # type: ignore[no-untyped-call]

    def load_overload(self, sig: Any, target_context: Any) -> Any:
        """Look for a compiled function on disk."""
        _load_arrays_without_blas()
        return super().load_overload(sig, target_context)  # type: ignore[no-untyped-call]


@cache
def _load_arrays_without_blas() -> None:
    """Keep numba from importing SciPy's linear algebra, 0.4 s and tens of MB, to learn whether there is any.

    It does so once, when functions on arrays are loaded; other people's kernels still find it when they need it.
    """
    from importlib.util import find_spec

    from numba.np import linalg

    def absent() -> None:
        raise ImportError

    ensure_blas, linalg.ensure_blas = linalg.ensure_blas, absent
    try:
        from numba.np import arraymath
    finally:
        linalg.ensure_blas = ensure_blas
    arraymath._HAVE_BLAS = find_spec("scipy") is not None


@cache
def _folder_digest(folder: Path) -> str:
    """Return a digest of the names and contents of a folder's source files."""
    found = sha256()
    for path in sorted(folder.glob("*.py")):
        found.update(f"{path.name}\n".encode() + sha256(path.read_bytes()).digest())
    return found.hexdigest()


def _pointer(context: Any, builder: Any, kind: Any, array: Any, index: Any) -> Any:
    """Return the address of an array's item, or of the first in a line of it."""
    value = context.make_array(kind)(context, builder, array)
    at = [index, *([ir.Constant(index.type, 0)] * (kind.ndim - 1))]
    locate: Any = get_item_pointer
    return builder.bitcast(locate(context, builder, kind, value, at, wraparound=False), ir.IntType(8).as_pointer())


def _prefetch(typing: Any, array: Any, index: Any) -> Any:
    """Return the type of `prefetch`, and what writes its code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        place = _pointer(context, builder, signature.args[0], *arguments)
        number = ir.IntType(32)
        call = ir.FunctionType(ir.VoidType(), [place.type, number, number, number])
        function = builder.module.declare_intrinsic("llvm.prefetch", [place.type], call)
        builder.call(function, [place, *(ir.Constant(number, one) for one in (0, 3, 1))])
        return context.get_dummy_value()

    return types.void(array, types.intp), generate


prefetch: Any = intrinsic(_prefetch)
"""`prefetch(array, index)` in a kernel asks the processor for what is soon read there. Any place may be named."""


def _copy_bytes(typing: Any, out: Any, place: Any, data: Any, start: Any, num_bytes: Any) -> Any:
    """Return the type of `copy_bytes`, and what writes its code."""

    def generate(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        out, place, data, start, num_bytes = arguments
        to = _pointer(context, builder, signature.args[0], out, place)
        source = _pointer(context, builder, signature.args[2], data, start)
        copy: Any = raw_memcpy
        copy(builder, to, source, num_bytes, ir.Constant(num_bytes.type, 1))
        return context.get_dummy_value()

    return types.void(out, types.intp, data, types.intp, types.intp), generate


copy_bytes: Any = intrinsic(_copy_bytes)
"""`copy_bytes(out, place, data, start, num_bytes)` in a kernel copies bytes between arrays of bytes, by memcpy.

Nothing is checked: the caller knows that both ranges are there.
"""


def kernel(*, within: bool = False) -> Any:
    """Return a decorator that compiles a function when it is first called; integers wrap around, floats are IEEE's.

    A kernel is compiled for each combination of types that it is called with, and a literal 0 is another type than a
    number; so counters that go to other kernels begin as np.int64(0), which halves the time that compiling takes.
    Kernels leave the interpreter to other threads meanwhile. With `within` the code becomes part of its callers':
    for what is small and called for each byte or word.
    """

    def compile_lazily(function: Callable[..., Any]) -> Any:
        dispatcher: Any = njit(forceinline=within, nogil=True)(function)
        dispatcher._cache = _FolderCache(function)
        return dispatcher

    return compile_lazily
