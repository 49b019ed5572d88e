"""Windows in memory: those in use, and those that are soon needed, which a thread reads ahead."""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from threading import Lock

from headrace.trainer.streaming.windows import TokenTable, Window

BUDGET_BYTES = 64 << 20
Name = tuple[int, int]


class WindowCache:
    """Windows by (source, number), the least recently used removed when they take more than `budget` bytes.

    What a reading raises, the next `get` of that window raises; it is then forgotten, so that it can be tried again.
    """

    def __init__(self, tables: Sequence[TokenTable], budget: int = BUDGET_BYTES) -> None:
        self._tables, self._budget = tuple(tables), budget
        self._held: OrderedDict[Name, Window] = OrderedDict()
        self._coming: dict[Name, Future[Window]] = {}
        self._thread: ThreadPoolExecutor | None = None
        self._lock = Lock()

    def get(self, name: Name) -> Window:
        """Return a window; see `TokenTable.read` for errors."""
        with self._lock:
            if name in self._held:
                self._held.move_to_end(name)
                return self._held[name]
            coming = self._coming.get(name)
        try:
            window = coming.result() if coming is not None else self._tables[name[0]].read(name[1])
        finally:
            with self._lock:
                self._coming.pop(name, None)
        with self._lock:
            self._held[name] = window
            self._remove_old()
        return window

    def expect(self, names: Iterable[Name]) -> None:
        """Read windows ahead, in this order, while there is room for them."""
        with self._lock:
            for name in names:
                if name in self._held or name in self._coming:
                    continue
                if len(self._coming) >= 2 * len(self._tables):
                    return
                if self._thread is None:
                    self._thread = ThreadPoolExecutor(1, "headrace-windows")
                self._coming[name] = self._thread.submit(self._tables[name[0]].read, name[1])

    def _remove_old(self) -> None:
        size = sum(window.num_bytes for window in self._held.values())
        while size > self._budget and len(self._held) > len(self._tables):
            _, window = self._held.popitem(last=False)
            size -= window.num_bytes
