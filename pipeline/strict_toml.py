"""Strict TOML: a file becomes a frozen model, or an error that a person can act on.

Every fault is named at once, one line each: the file, the key, the value, and what would be right; an unknown key
suggests the nearest known one.
"""

import json
import tomllib
from collections.abc import Collection, Iterator
from datetime import date, time
from difflib import get_close_matches
from pathlib import Path
from typing import Any, TypeVar, get_args

from pydantic import BaseModel, ValidationError
from pydantic_core import PydanticCustomError

from headrace.pipeline.errors import InputError, RecipeError

M = TypeVar("M", bound=BaseModel)

KEY_FAULT = "key_fault"


def key_fault(key: str, what: str) -> PydanticCustomError:
    """Return the error to raise where a whole table is checked, and one key of it is what a person has to change."""
    return PydanticCustomError(KEY_FAULT, "{what}", {"key": key, "what": what})


def one_of(what: str, name: str, known: Collection[str]) -> str:
    """Return a name that is known; raises ValueError with the nearest one, and all of them."""
    if name not in known:
        near = get_close_matches(name, known, n=1, cutoff=0.5)
        meant = f" (did you mean {near[0]!r}?)" if near else ""
        raise ValueError(f"no such {what}{meant}; one of: {', '.join(known)}")
    return name


def load_toml(model: type[M], path: Path) -> M:
    """Read a TOML file as `model`.

    Raises:
        InputError: the file cannot be read.
        RecipeError: it is not TOML, or a key or value is wrong.
    """
    return parse_toml(model, read_text(path), str(path))


def read_text(path: Path) -> str:
    """Return a small text file that a person names.

    Raises:
        InputError: it cannot be read.
    """
    try:
        return path.read_text(encoding="utf-8")
    except OSError as error:
        raise InputError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not UTF-8 text at byte {error.start}") from None


def parse_toml(model: type[M], text: str, file: str) -> M:
    """Decode the text of a TOML file; `file` is its name in errors. Raises `RecipeError` as `load_toml` does."""
    try:
        table = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise RecipeError(f"{file}: not TOML: {error}") from None
    return decode(model, table, file)


def decode(model: type[M], table: dict[str, Any], file: str) -> M:
    """Check a decoded table against `model`; raises `RecipeError`."""
    dates = [
        f"{file}: {key} = {value}: a date or time is no value here; put it in quotes for text"
        for key, value in _leaves(table)
        if isinstance(value, date | time)
    ]
    if dates:
        raise RecipeError("\n".join(dates))
    try:
        # By way of JSON, because there a strict tuple may be written as an array.
        return model.model_validate_json(json.dumps(table))
    except ValidationError as error:
        raise RecipeError("\n".join(f"{file}: {line}" for line in _explain(model, error))) from None


def _leaves(value: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Yield each value of a decoded table that is no table or array, with its key."""
    if isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            yield from _leaves(item, f"{path}.{key}".lstrip("."))
    else:
        yield path, value


def _explain(model: type[BaseModel], error: ValidationError) -> Iterator[str]:
    """Yield one line per fault: the key, what is wrong, and what would be right."""
    for fault in error.errors(include_url=False):
        location, kind, value = fault["loc"], fault["type"], fault["input"]
        if kind == KEY_FAULT:
            name = fault["ctx"]["key"]
            location, value = (*location, name), value.get(name)
        key = ".".join(map(str, location))
        if kind == "extra_forbidden":
            yield f"unknown key {key!r}{_suggest(model, location)}"
        elif kind == "missing":
            yield f"the key {key!r} is missing"
        else:
            what = f"{key} = {value!r}: " if key else ""
            yield what + fault["msg"].removeprefix("Value error, ")


def _suggest(model: type[BaseModel], location: tuple[int | str, ...]) -> str:
    known = list(_fields_at(model, location[:-1]))
    near = get_close_matches(str(location[-1]), known, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known here: {', '.join(sorted(known))}"


def _fields_at(model: type[BaseModel], location: tuple[int | str, ...]) -> Iterator[str]:
    """Yield the keys of the table at a location; a union's tag in the location picks the member of that `kind`."""
    models = [model]
    for key in location:
        fields = [one.model_fields[key] for one in models if isinstance(key, str) and key in one.model_fields]
        if fields:
            models = list(_models_in(fields[0].annotation))
        elif isinstance(key, str):
            models = [one for one in models if _kind(one) == key] or models
    for one in models:
        for name, field in one.model_fields.items():
            yield field.alias or name


def _kind(model: type[BaseModel]) -> str | None:
    field = model.model_fields.get("kind")
    values = get_args(field.annotation) if field else ()
    return str(values[0]) if values else None


def _models_in(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for argument in get_args(annotation):
        yield from _models_in(argument)
