"""Libraries that only some measurements need: looked for when one is asked for; their absence names the extra."""

from importlib.metadata import PackageNotFoundError, version


class MissingLibraryError(Exception):
    """A measurement was asked for whose library is not installed; the message says what to install."""


def library_version(*distributions: str, extra: str, purpose: str) -> str:
    """Return the installed version of an optional library; it belongs in the resources of what uses it.

    Of several distributions of one module the first that is installed counts, and is named before the version.

    Raises:
        MissingLibraryError: none is installed; the message names `purpose` and the extra.
    """
    for distribution in distributions:
        try:
            found = version(distribution)
        except PackageNotFoundError:
            continue
        return found if len(distributions) == 1 else f"{distribution} {found}"
    raise MissingLibraryError(
        f"{purpose} needs {distributions[0]}, which is not installed here; pip install 'headrace[{extra}]'"
    )
