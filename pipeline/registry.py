"""Making registered things by name and options, with errors that name the near miss."""

import json
from collections.abc import Mapping
from dataclasses import MISSING, fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from headrace.filters.plugins import PluginError
from headrace.filters.registry import ClassRegistry, Registry
from headrace.pipeline.errors import RecipeError

__all__ = ["ClassRegistry", "Registry", "find_registered", "make_registered"]


def make_registered(registry: ClassRegistry, name: str, options: Mapping[str, Any], plugin: str = "") -> Any:
    """Return the registered dataclass of that name made with `options` as its fields; arrays become tuples.

    `plugin` is the module that has it, if it is not known without.

    Raises:
        RecipeError: there is no class of that name, it has no such option, lacks one, or refuses a value.
    """
    kind, cls = registry.kind, find_registered(registry, name, plugin)
    known = {field.name for field in fields(cls)}
    for option in options:
        if option not in known:
            raise RecipeError(f"{kind} {name!r} has no option {option!r}{_near(option, known)}")
    for field in fields(cls):
        if field.name not in options and field.default is MISSING and field.default_factory is MISSING:
            raise RecipeError(f"{kind} {name!r} needs the option {field.name!r}")
    types = get_type_hints(cls)
    values = {key: _checked(f"{kind} {name!r}, option {key!r}", types[key], value) for key, value in options.items()}
    try:
        return cls(**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{kind} {name!r} refuses its options {dict(options)}: {error}") from error


def find_registered(registry: ClassRegistry, name: str, plugin: str = "") -> type[Any]:
    """Return the registered class of a name; raises `RecipeError`, which suggests the near miss."""
    try:
        found = registry.find(name, plugin)
        if found is None:
            raise RecipeError(f"there is no {registry.kind} {name!r}{_near(name, registry.names())}")
    except PluginError as error:
        raise RecipeError(f"{registry.kind} {name!r}: {error}") from error
    return found


def _checked(what: str, kind: Any, value: Any) -> Any:
    """Return a value of exactly that type; by way of JSON, because there a strict tuple may be written as an array."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        fault = error.errors()[0]
        inside = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in fault["loc"])
        said = fault["msg"].removeprefix("Value error, ")
        raise RecipeError(f"{what} = {value!r}: {inside.lstrip('.')}{': ' if inside else ''}{said}") from None


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known)) or 'none'}"
