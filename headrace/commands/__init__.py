"""Commands by name, in the order in which `--help` lists them: that of the work."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from headrace.commands.build import build, plan
from headrace.commands.recipes import recipes
from headrace.console import Result

COMMANDS: Mapping[str, Callable[..., Result]] = MappingProxyType(
    {
        "build": build,
        "plan": plan,
        "recipes": recipes,
    }
)
