"""Making registered things by name and options, with errors that name the near miss."""

import json
from collections.abc import Mapping
from dataclasses import fields
from difflib import get_close_matches
from typing import Any, get_type_hints

from pydantic import TypeAdapter, ValidationError

from headrace.filters.registry import ClassRegistry, Registry
from headrace.pipeline.errors import RecipeError

__all__ = ["ClassRegistry", "Registry", "make_registered"]


def make_registered(registry: ClassRegistry, name: str, options: Mapping[str, Any]) -> Any:
    """Return the registered dataclass of that name made with `options` as its fields; arrays become tuples.

    Raises:
        RecipeError: there is no class of that name, it has no such option, or refuses a value.
    """
    kind, classes = registry.kind, registry.all()
    if name not in classes:
        raise RecipeError(f"there is no {kind} {name!r}{_near(name, classes)}")
    known = {field.name for field in fields(classes[name])}
    for option in options:
        if option not in known:
            raise RecipeError(f"{kind} {name!r} has no option {option!r}{_near(option, known)}")
    types = get_type_hints(classes[name])
    values = {key: _checked(f"{kind} {name!r}, option {key!r}", types[key], value) for key, value in options.items()}
    try:
        return classes[name](**values)
    except (TypeError, ValueError) as error:
        raise RecipeError(f"{kind} {name!r} refuses its options {dict(options)}: {error}") from error


def _checked(what: str, kind: Any, value: Any) -> Any:
    """Return a value of exactly that type; by way of JSON, because there a strict tuple may be written as an array."""
    try:
        return TypeAdapter(kind).validate_json(json.dumps(value), strict=True)
    except ValidationError as error:
        raise RecipeError(f"{what} = {value!r}: {error.errors()[0]['msg']}") from None


def _near(name: str, known: Any) -> str:
    near = get_close_matches(name, list(known), 1)
    return f"; did you mean {near[0]!r}?" if near else f"; there are: {', '.join(sorted(known)) or 'none'}"
