"""What a worker does: take a bundle of tasks, leave commits in the store."""

import platform
import time
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path

from headrace.pipeline.building import working
from headrace.pipeline.errors import StoreError
from headrace.pipeline.schema import Commit, Task
from headrace.pipeline.stages.contract import stage_classes
from headrace.pipeline.store import Store, writing


def run_bundle(tasks: Sequence[Task], store_root: Path) -> None:
    """Run tasks of one stage and commit each; a task that somebody else has finished meanwhile is left as it is.

    Raises:
        LedgerError: the stage lost something; nothing is committed then.
    """
    store = Store.open(store_root)
    classes = stage_classes()
    if tasks[0].stage not in classes:
        raise StoreError(f"no stage {tasks[0].stage!r} here; the driver has another version of headrace")
    started = time.monotonic()
    with working(store), writing(store.root):
        for task, made in classes[tasks[0].stage].run_bundle(tasks, store):
            made.ledger.check(f"stage {task.stage}, task {task.key[:12]}")
            seconds = round((time.monotonic() - started) / len(tasks), 3)
            provenance: dict[str, str | float | int] = {
                "seconds": seconds,
                "host": platform.node(),
                "headrace": version("headrace"),
            }
            store.commit(
                Commit(task=task, files=made.files, ledger=made.ledger, facts=made.facts, provenance=provenance)
            )
