"""`headrace verify`: hash everything again."""

from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console

from headrace.console import FAILED, Result, as_data, table
from headrace.progress import counting

Target = Annotated[Path, typer.Argument(metavar="MANIFEST_OR_STORE", help="A store, a manifest or a lock in a store.")]
Raw = Annotated[bool, typer.Option("--raw", help="Also hash the raw inputs, where they still lie.")]


def verify(path: Target, raw: Raw = False) -> Result:
    """Hash every file again and compare it with the records; the status is 1 where one byte differs.

    An artifact is verified with all that it was made from.
    """
    from headrace.pipeline.verify import verify as verify_path

    with counting("files") as count:
        report = verify_path(path, raw=raw, watch=lambda name: count())

    def show(console: Console) -> None:
        if report.findings:
            console.print(
                table(("file", "what is wrong", "where"), [(f.path, f.what, f.where) for f in report.findings])
            )
        for stray in report.stray:
            console.print(f"{stray.path}: {stray.note}")
        verdict = "whole" if report.ok else f"{len(report.findings)} findings"
        console.print(f"{report.path}: {verdict}; {report.files:,} files, {report.bytes:,} bytes hashed")

    return Result({"ok": report.ok, **as_data(report)}, show, 0 if report.ok else FAILED)
