"""Plants one mistake of `mutations` in the package, before the package is imported."""

from __future__ import annotations

import importlib.machinery
import importlib.util
import sys
from typing import TYPE_CHECKING, Any

from .mutations import MUTATIONS

if TYPE_CHECKING:
    from .mutations import Mutation

__all__ = ["changed_source", "plant"]


def changed_source(mutation: Mutation, source: str) -> str:
    """Gives the source of a module with a mistake in it.

    Raises:
        ValueError: a text that is to be replaced does not stand there exactly once.
    """
    for old, new in mutation.edits:
        if source.count(old) != 1:
            raise ValueError(f"{mutation.name}: {mutation.module} holds {source.count(old)} times {old!r}")
        source = source.replace(old, new)
    return source


class _Loader(importlib.machinery.SourceFileLoader):
    def __init__(self, name: str, path: str, mutation: Mutation) -> None:
        super().__init__(name, path)
        self._mutation = mutation

    def get_code(self, fullname: str) -> Any:
        source = self.get_data(self.path).decode()
        return compile(changed_source(self._mutation, source), self.path, "exec", dont_inherit=True)


class _Finder:
    def __init__(self, mutation: Mutation) -> None:
        self._mutation = mutation

    def find_spec(
        self, name: str, path: Any = None, target: Any = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Finds the module in which the mistake is planted."""
        if name != self._mutation.module:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        assert spec is not None
        assert spec.origin is not None
        return importlib.util.spec_from_file_location(
            name, spec.origin, loader=_Loader(name, spec.origin, self._mutation)
        )


def plant(name: str) -> None:
    """Plants a mistake; the package must not have been imported yet."""
    mutation = MUTATIONS[name]
    if mutation.module in sys.modules:
        raise RuntimeError(f"{mutation.module} has been imported already")
    sys.meta_path.insert(0, _Finder(mutation))
