"""Strategies and indicators by name: a short name of one of ours, or ``path/to/file.py:ClassName``."""

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
    if file := _file_of(name):
        return _class_of(_load_file(file), name.rpartition(":")[2], file, bt.Strategy)
    if name not in strategy_names():
        raise StrategyError(
            f"unknown strategy {name!r}: choose {', '.join(strategy_names())}, or give path/to/file.py:ClassName"
        )
    module = importlib.import_module(f"{strategies.__name__}.{name}")
    (found,) = [c for c in vars(module).values() if _is_a(c, bt.Strategy) and c.__module__ == module.__name__]
    return found


def load_target(name: str) -> type[bt.Strategy] | type[bt.Indicator]:
    """Return the strategy or indicator that ``name`` means, as ``load_strategy`` does.

    The short name of an indicator is its class's, in any case where no strategy has that name: forecast, HiSS.
    """
    if file := _file_of(name):
        return _class_of(_load_file(file), name.rpartition(":")[2], file, (bt.Strategy, bt.Indicator))
    if name in strategy_names():
        return load_strategy(name)
    from hissbt import indicators  # here because it takes a second, which a backtest should not

    for known in indicators.__all__:
        if known.lower() == name.lower():
            return getattr(indicators, known)
    raise StrategyError(
        f"unknown strategy or indicator {name!r}: choose {', '.join((*strategy_names(), *indicators.__all__))}, "
        "or give path/to/file.py:ClassName"
    )


def _file_of(name: str) -> Path | None:
    """Return the file in ``path/to/file.py:ClassName``, None of another name."""
    path, colon, _ = name.rpartition(":")
    return Path(path) if colon and path.endswith(".py") else None


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


def _class_of(module: ModuleType, class_name: str, path: Path, kinds: type | tuple[type, ...]) -> type:
    found = getattr(module, class_name, None)
    if not _is_a(found, kinds):
        known = [name for name, value in vars(module).items() if _is_a(value, kinds)]
        wanted = "strategy" if kinds is bt.Strategy else "strategy or indicator"
        raise StrategyError(
            f"{path} has no Backtrader {wanted} {class_name!r}: it has {', '.join(known) or 'none at all'}"
        )
    return found


def _is_a(value, kinds: type | tuple[type, ...]) -> bool:
    return inspect.isclass(value) and issubclass(value, kinds) and value not in (bt.Strategy, bt.Indicator)


def _pickled(strategy: type[bt.Strategy]) -> str | tuple:
    """Send a class from a user's file by path and name: another process cannot import its module by name."""
    file = getattr(sys.modules.get(strategy.__module__), "__file__", None)
    if file is None or strategy.__module__ != _module_name(Path(file)):
        return strategy.__qualname__
    return load_strategy, (f"{file}:{strategy.__qualname__}",)


copyreg.pickle(type(bt.Strategy), _pickled)
