"""Finished backtests of a sweep that is under way, on disk at once, so that nothing is run twice."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any


class Journal:
    """A file of JSON lines, one a finished job; one that was half written when its writer was killed is none."""

    def __init__(self, path: str | Path):
        """Use the file ``path``, which need not be there."""
        self.path = Path(path)

    def read(self) -> dict[int, dict[str, Any]]:
        """Return the outcomes by the numbers of their jobs."""
        text = self.path.read_text(encoding="utf-8", errors="replace") if self.path.exists() else ""
        outcomes = filter(None, map(_outcome, text.splitlines()))
        return {outcome["job"]: outcome for outcome in outcomes}

    def add(self, outcome: Mapping[str, Any]) -> None:
        """Write an outcome; when this returns it is kept."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(f"\n{json.dumps(outcome)}\n")  # first ends what another may have left half written
            file.flush()
            os.fsync(file.fileno())

    def remove(self) -> None:
        """Forget everything: the sweep is over."""
        self.path.unlink(missing_ok=True)


def _outcome(line: str) -> dict[str, Any] | None:
    try:
        return json.loads(line)
    except ValueError:
        return None
