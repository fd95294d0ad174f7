"""What is to be done as soon as another library is imported: now, when it already is, else right after it was."""

import sys
from collections.abc import Callable, Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

__all__ = ["after_import"]


def after_import(name: str, action: Callable[[ModuleType], None]) -> None:
    """Call `action` with the library's module; twice where this is called twice after the import.

    Args:
        name: of the library, without a dot.
        action: must not import what imports the library itself, which is then half imported.
    """
    if name in sys.modules:
        action(sys.modules[name])
    elif not any(isinstance(finder, _Finder) and finder.name == name for finder in sys.meta_path):
        sys.meta_path.insert(0, _Finder(name, action))


class _Finder(MetaPathFinder):
    """Steps in for one import; who only asks whether the library is there, as others do, does not use it up."""

    def __init__(self, name: str, action: Callable[[ModuleType], None]) -> None:
        self.name, self.action = name, action

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        if name != self.name:
            return None
        # not of PathFinder alone: a library that is installed to be edited may have a finder of its own
        others = (finder.find_spec(name, path, target) for finder in sys.meta_path if finder is not self)
        spec = next((found for found in others if found is not None), None)
        if spec is not None and spec.loader is not None:
            spec.loader = _ActingLoader(spec.loader, self)
        return spec


class _ActingLoader(Loader):
    """The library's own loader, followed by the action."""

    def __init__(self, loader: Loader, finder: _Finder) -> None:
        self._loader, self._finder = loader, finder

    def __getattr__(self, name: str) -> Any:
        # a copy asks before it has its own attributes
        if name == "_loader":
            raise AttributeError(name)
        return getattr(self._loader, name)

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        if self._finder in sys.meta_path:
            # diffusers puts a lazy module in its own place while it is executed
            self._finder.action(sys.modules[self._finder.name])
            # not before: where the action fails, so does every later import, and nothing goes on without it
            sys.meta_path.remove(self._finder)
