"""QuantStats without its side effects."""

import logging
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from types import ModuleType


@contextmanager
def quiet_quantstats() -> Iterator[ModuleType]:
    """Import QuantStats, which takes seconds, and yield it.

    What it says about missing fonts and outdated calls, and what it does to matplotlib's settings, stays inside.
    """
    fonts = logging.getLogger("matplotlib.font_manager")
    level = fonts.level
    fonts.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            import matplotlib as mpl

            with mpl.rc_context():
                import quantstats

                yield quantstats
    finally:
        fonts.setLevel(level)
