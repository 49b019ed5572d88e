"""The plugins of a recipe: modules of installed distributions, and which signals each of them defines."""

from collections.abc import Sequence

from headrace.filters.contract import SIGNALS
from headrace.filters.plugins import PluginError, announced_module
from headrace.pipeline.errors import RecipeError


def plugin_signals(modules: Sequence[str]) -> dict[str, str]:
    """Import the plugins of a recipe; return by the name of each signal that they define the module that has it.

    Raises:
        RecipeError: a module cannot be imported, defines no signal, or one whose name is taken.
    """
    found: dict[str, str] = {}
    for module in modules:
        try:
            names = SIGNALS.of_plugin(module)
            for name in names:
                _refuse_rival(name, module)
        except PluginError as error:
            raise RecipeError(f"plugins = [..., {module!r}]: {error}") from error
        if not names:
            raise RecipeError(f"plugins = [..., {module!r}]: it registers no signal; a class becomes one by @register")
        found |= dict.fromkeys(names, module)
    return found


def _refuse_rival(name: str, module: str) -> None:
    """Raise `PluginError` where an installed distribution announces another signal of that name."""
    rival = announced_module(SIGNALS.group, name)
    if rival is not None and not f"{rival}.".startswith(f"{module}.") and not f"{module}.".startswith(f"{rival}."):
        raise PluginError(f"two signals are called {name!r}: this module's, and one that is announced in {rival!r}")
