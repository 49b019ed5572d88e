"""Registries: things of one kind by name, found by importing the modules of one package.

So that adding one is adding one file: the file registers what it defines, and nothing lists the files. Three sources
of names follow in turn: our own package; families, which make things from names with their prefix (`datatrove:...`);
and installed distributions that announce a name in the entry points of the group `headrace.<kind>s`, whose modules are
imported when that name is asked for. A module that is named explicitly (`plugin`) is asked alone.
"""

from collections.abc import Callable
from importlib import import_module
from pkgutil import iter_modules
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")
T_co = TypeVar("T_co", covariant=True)
C = TypeVar("C", bound=type[Any])


class Family(Protocol[T_co]):
    """Makes things from names after its prefix; what it needs is imported when it is asked."""

    @property
    def prefix(self) -> str:
        """What stands before the colon."""
        ...

    def names(self) -> list[str]:
        """Return the names that it knows, without the prefix; none where what it needs is not installed."""
        ...

    def find(self, name: str) -> T_co | None:
        """Return the thing of a name without the prefix, None where there is none; raises PluginError."""
        ...


class Registry(Generic[T]):
    """What is registered under its name by the modules of `package`; `kind` is its word in errors."""

    def __init__(self, kind: str, package: str) -> None:
        self.kind, self._package = kind, package
        self._known: dict[str, T] = {}
        self._families: dict[str, Family[T]] = {}

    @property
    def group(self) -> str:
        """The group of entry points in which distributions announce what they have."""
        return f"headrace.{self.kind}s"

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

    def add_family(self, family: Family[T]) -> None:
        """Make the names of a family known."""
        self._families[family.prefix] = family

    def all(self) -> dict[str, T]:
        """Return everything of our own by name, in alphabetical order."""
        package = import_module(self._package)
        for module in iter_modules(package.__path__):
            import_module(f"{package.__name__}.{module.name}")
        return self._defined_in(self._package)

    def _defined_in(self, module: str) -> dict[str, T]:
        """Return what a module or the modules below it registered."""
        where = {name: f"{getattr(item, '__module__', '')}." for name, item in self._known.items()}
        return {name: self._known[name] for name in sorted(where) if where[name].startswith(f"{module}.")}

    def of_plugin(self, module: str) -> dict[str, T]:
        """Return what a module of an installed distribution registers, by name.

        Raises:
            PluginError: it cannot be imported (see `plugins.import_plugin`), or registers a name that is taken.
        """
        from headrace.filters.plugins import import_plugin

        self.all()  # first, so that a name that is taken is the plugin's fault
        import_plugin(module)
        return self._defined_in(module)

    def find(self, name: str, plugin: str = "") -> T | None:
        """Return the thing of a name, None where nothing has it; of the module `plugin`, if one is named.

        Raises:
            PluginError: what has the name cannot be used here.
        """
        if plugin:
            return self.of_plugin(plugin).get(name)
        ours = self.all()
        if name in ours:
            return ours[name]
        prefix, colon, rest = name.partition(":")
        if colon and prefix in self._families:
            return self._families[prefix].find(rest)
        return self._announced(name)

    def _announced(self, name: str) -> T | None:
        from headrace.filters.plugins import PluginError, announced_module

        module = announced_module(self.group, name)
        if module is None:
            return None
        found = self.of_plugin(module)
        if name not in found:
            has = ", ".join(found) or "none"
            raise PluginError(
                f"{module!r} is announced for the {self.kind} {name!r}, but registers {has}: mend its entry points"
            )
        return found[name]

    def names(self) -> list[str]:
        """Return every name that `find` may know; nothing of a plugin is imported."""
        from headrace.filters.plugins import announced

        ours = list(self.all())
        others = [name for name in announced(self.group) if name not in ours]
        families = [f"{prefix}:{name}" for prefix, family in self._families.items() for name in family.names()]
        return [*ours, *others, *families]


class ClassRegistry(Registry[type[Any]]):
    """Classes, each under its own attribute `name`."""

    def register(self, cls: C) -> C:
        """Decorate a class to register it."""
        self.add(cls.name, cls)
        return cls
