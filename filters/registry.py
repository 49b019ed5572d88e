"""Registries: things of one kind by name, found by importing the modules of one package.

So that adding one is adding one file: the file registers what it defines, and nothing lists the files.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, TypeVar

T = TypeVar("T")
C = TypeVar("C", bound=type[Any])


class Registry(Generic[T]):
    """What is registered under its name by the modules of `package`; `kind` is its word in errors."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self._package = kind, package
        self._known: dict[str, T] = {}

    def add(self, name: str, item: T) -> None:
        """Make an item known by a name.

        Raises:
            ValueError: another one has that name.
        """
        if self._known.setdefault(name, item) is not item:
            raise ValueError(f"two {self.kind}s are called {name!r}: {self._known[name]} and {item}")

    def named(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a function under a name."""

        def register(item: T) -> T:
            self.add(name, item)
            return item

        return register

    def all(self) -> dict[str, T]:
        """Return everything by name, in alphabetical order."""
        package = import_module(self._package)
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
        return dict(sorted(self._known.items()))


class ClassRegistry(Registry[type[Any]]):
    """Classes, each under its own attribute `name`."""

    def register(self, cls: C) -> C:
        """Decorate a class to register it."""
        self.add(cls.name, cls)
        return cls
