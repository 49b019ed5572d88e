"""Lists of words and phrases: files of one entry a line, in UTF-8, pinned by a digest (`filters.models`)."""

from pathlib import Path

from headrace.filters.models import ModelFileError


def read_lines(path: Path) -> list[str]:
    """Return the lines of a list; raises ModelFileError where it is no text in UTF-8."""
    try:
        return path.read_text(encoding="utf-8-sig").splitlines()
    except UnicodeDecodeError as error:
        raise ModelFileError(f"{path}: is no list in UTF-8 (byte {error.start})") from None
