"""Libraries that only some measurements need: looked for when one is asked for; their absence names the extra."""

from importlib.metadata import PackageNotFoundError, version


class MissingLibraryError(Exception):
    """A measurement was asked for whose library is not installed; the message says what to install."""


def library_version(distribution: str, extra: str, purpose: str) -> str:
    """Return the installed version of an optional library; it belongs in the resources of what uses it.

    Raises:
        MissingLibraryError: it is not installed; the message names `purpose` and the extra.
    """
    try:
        return version(distribution)
    except PackageNotFoundError:
        raise MissingLibraryError(
            f"{purpose} needs {distribution}, which is not installed here; pip install 'headrace[{extra}]'"
        ) from None
