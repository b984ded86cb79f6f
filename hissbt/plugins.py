"""Strategies by name: a short name from ``hissbt.strategies``, or ``path/to/file.py:ClassName``."""

import copyreg
import hashlib
import importlib
import importlib.util
import inspect
import pkgutil
import sys
from pathlib import Path
from types import ModuleType

import backtrader as bt

from hissbt import strategies
from hissbt.errors import StrategyError


def strategy_names() -> list[str]:
    """Return the short names: one a module of ``hissbt.strategies``."""
    return sorted(module.name for module in pkgutil.iter_modules(strategies.__path__))


def load_strategy(name: str) -> type[bt.Strategy]:
    """Return the strategy class that ``name`` means; raises StrategyError if there is none.

    A user's file runs once, and may import what lies beside it. Its classes can be pickled, as optstrategy does.
    """
    path, colon, class_name = name.rpartition(":")
    if colon and path.endswith(".py"):
        return _strategy_of(_load_file(Path(path)), class_name, path)
    if name not in strategy_names():
        raise StrategyError(
            f"unknown strategy {name!r}: choose {', '.join(strategy_names())}, or give path/to/file.py:ClassName"
        )
    module = importlib.import_module(f"{strategies.__name__}.{name}")
    (found,) = [c for c in vars(module).values() if _is_strategy(c) and c.__module__ == module.__name__]
    return found


def _load_file(path: Path) -> ModuleType:
    """Import a user's file under a name of its own, with its folder importable as when it runs as a script."""
    path = path.resolve()
    if not path.is_file():
        raise StrategyError(f"there is no strategy file {path}: check the path before the colon")
    name = _module_name(path)
    if name in sys.modules:
        return sys.modules[name]
    if str(path.parent) not in sys.path:
        sys.path.insert(0, str(path.parent))
    spec = importlib.util.spec_from_file_location(name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[name] = module  # before it runs: Backtrader looks a class's module up there
    try:
        spec.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        del sys.modules[name]
        raise StrategyError(f"cannot import {path}, it raises {type(error).__name__}: {error}") from error
    return module


def _module_name(path: Path) -> str:
    return f"{path.stem}_{hashlib.sha256(str(path).encode()).hexdigest()[:8]}"


def _strategy_of(module: ModuleType, class_name: str, path: str) -> type[bt.Strategy]:
    found = getattr(module, class_name, None)
    if not _is_strategy(found):
        known = [name for name, value in vars(module).items() if _is_strategy(value)]
        raise StrategyError(
            f"{path} has no Backtrader strategy {class_name!r}: it has {', '.join(known) or 'none at all'}"
        )
    return found


def _is_strategy(value) -> bool:
    return inspect.isclass(value) and issubclass(value, bt.Strategy) and value is not bt.Strategy


def _pickled(strategy: type[bt.Strategy]) -> str | tuple:
    """Send a class from a user's file by path and name: another process cannot import its module by name."""
    file = getattr(sys.modules.get(strategy.__module__), "__file__", None)
    if file is None or strategy.__module__ != _module_name(Path(file)):
        return strategy.__qualname__
    return load_strategy, (f"{file}:{strategy.__qualname__}",)


copyreg.pickle(type(bt.Strategy), _pickled)
