"""The ledger of trials: every fit and every backtest, whatever became of it, so that luck can be counted.

``trials.sqlite`` in the folder of results has one row where a trial begins and another where it ends; one that
was killed has only the first. Rows are never changed. Each carries the sha256 of the one before; their number and
the sha256 of the last stand in a table of their own; and ``run.json`` of every run names the row of its trial.
So ``verify`` notices if rows were altered or deleted, be it the last ones or the whole file.
"""

from __future__ import annotations

import hashlib
import json
import os
import sqlite3
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import NamedTuple

from hissbt.atomic import to_json
from hissbt.errors import HissbtError

FILE = "trials.sqlite"
_WAIT_S = 30.0  # for another process that is writing
_NOTHING = "0" * 64  # what the first row follows
_LONGEST_ERROR = 1000

# The record is JSON, and all there is to a row; the columns below it only read it.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS trials (
        number INTEGER PRIMARY KEY,
        previous TEXT NOT NULL,
        sha256 TEXT NOT NULL,
        record TEXT NOT NULL,
        event TEXT AS (json_extract(record, '$.event')),
        time TEXT AS (json_extract(record, '$.time')),
        kind TEXT AS (json_extract(record, '$.kind')),
        symbol TEXT AS (json_extract(record, '$.symbol')),
        timeframe TEXT AS (json_extract(record, '$.timeframe')),
        config_sha256 TEXT AS (json_extract(record, '$.config_sha256')),
        begun INTEGER AS (json_extract(record, '$.begun')),
        status TEXT AS (json_extract(record, '$.status')),
        sharpe REAL AS (json_extract(record, '$.sharpe')),
        observations INTEGER AS (json_extract(record, '$.observations')),
        folder TEXT AS (json_extract(record, '$.folder'))
    )""",
    "CREATE INDEX IF NOT EXISTS by_begun ON trials (begun)",
    """CREATE TRIGGER IF NOT EXISTS never_altered BEFORE UPDATE ON trials
        BEGIN SELECT RAISE(ABORT, 'a trial is never altered'); END""",
    """CREATE TRIGGER IF NOT EXISTS never_deleted BEFORE DELETE ON trials
        BEGIN SELECT RAISE(ABORT, 'a trial is never deleted'); END""",
    "CREATE TABLE IF NOT EXISTS head (rows INTEGER NOT NULL, sha256 TEXT NOT NULL)",
    f"INSERT INTO head SELECT 0, '{_NOTHING}' WHERE NOT EXISTS (SELECT * FROM head)",
)
_TRIED = """
    SELECT tried.kind, tried.config_sha256, json_extract(tried.record, '$.bundles'),
        json_extract(ended.record, '$.bundles'), ended.sharpe, ended.observations, ended.status
    FROM trials AS tried LEFT JOIN trials AS ended ON ended.begun = tried.number
    WHERE tried.event = 'begun' AND tried.symbol = ? AND tried.timeframe = ?
    ORDER BY tried.number
"""
_LINKS = "SELECT number, previous, sha256, record FROM trials ORDER BY number"
_MISSED = (
    "Row {row:,} of the trial ledger is not the one of the run {run}: rows were deleted, or the run comes from "
    "elsewhere."
)


class Row(NamedTuple):
    """Which row of the ledger it is, and what it held."""

    number: int
    """From 1."""
    sha256: str


class _Tried(NamedTuple):
    """A trial as the ledger has it, begin and end side by side; bundles are JSON lists."""

    kind: str
    config_sha256: str
    used: str
    made: str | None
    sharpe: float | None
    observations: int | None
    status: str | None


class Outcome(NamedTuple):
    """How a trial went."""

    sharpe: float
    """Per observation."""
    observations: int


@dataclass
class Trial:
    """A trial that is going on."""

    config_sha256: str
    row: Row | None
    """The row that says that it began; None if the ledger could not be written."""
    result: dict = field(default_factory=dict)
    """What the row of its end will hold, beside ``status`` and ``error``; JSON."""


class Trials:
    """The ledger in one folder. Any number of processes may write it at the same time.

    It never stops a trial: where it cannot be written, there is a RuntimeWarning and the trial goes on.
    """

    def __init__(self, root: str | Path | None = None):
        """Use the folder ``root``, by default the environment's HISSBT_RUNS, else ``runs`` where the user is."""
        self.root = Path(root or os.environ.get("HISSBT_RUNS") or "runs")
        self.path = self.root / FILE

    @contextmanager
    def trial(
        self, kind: str, config: Mapping, *, symbol: str, timeframe: str, bundles: Sequence[str] = (), **facts
    ) -> Iterator[Trial]:
        """Enter a trial before it begins, and after it how it ended.

        That is ``done``, ``failed``, ``aborted``, or ``refused`` where an error of ours names the input as bad.
        ``kind`` is ``fit`` or ``backtest``. ``config`` (JSON) is everything that makes it another trial than the
        next one, bars and seed included: equal ones are the same trial, done again. ``bundles`` are the sha256 of
        the models that a backtest uses; those that a fit makes belong in its result. ``facts`` are for people.
        """
        config_sha256 = _sha256(json.dumps(_plain(config), sort_keys=True))
        facts |= {"symbol": symbol, "timeframe": timeframe, "bundles": list(bundles)}
        row = self._append(
            {"event": "begun", "kind": kind, "config_sha256": config_sha256, **facts, "config": config}
        )
        trial = Trial(config_sha256, row)
        try:
            yield trial
        except BaseException as error:
            text = f"{type(error).__name__}: {error}"[:_LONGEST_ERROR]
            self._end(trial, kind, status=_status(error), error=text)
            raise
        self._end(trial, kind, status="done")

    def tried(self, symbol: str, timeframe: str) -> dict[str, Outcome | None]:
        """Return all that was tried on bars of this symbol and timeframe, by the sha256 of its config.

        Seeds and params count, and failed, aborted and killed trials, but not refused ones; so do fits, but for
        those whose bundle was backtested on such bars, which are in that backtest. None where there is no Sharpe
        ratio. Empty if the ledger cannot be read, see ``verify``.
        """
        try:
            (rows,) = self._read(_TRIED, values=(symbol, timeframe))
            return _counted([_Tried(*row) for row in rows])
        except (OSError, sqlite3.Error, TypeError, ValueError):  # the last two for rows that somebody altered
            return {}

    def verify(self) -> list[str]:
        """Return what is wrong with the ledger, a sentence each; reads all of it and every run.json beside it."""
        named = _named_by_runs(self.root)  # before the ledger is read, in which others may be writing
        try:
            rows, heads = self._read(_LINKS, "SELECT rows, sha256 FROM head")
        except (OSError, sqlite3.Error) as error:
            return [f"The trial ledger {FILE} cannot be read ({error})."]
        known = {number: sha256 for number, _, sha256, _ in rows}
        missed = (run for run, row in named.items() if known.get(row.number) != row.sha256)
        return [*_broken_links(rows, heads), *(_MISSED.format(row=named[run].number, run=run) for run in missed)]

    # --- pieces

    def _append(self, record: Mapping) -> Row | None:
        """Write a row, or warn; returns None then."""
        record = {"time": datetime.now(UTC).isoformat(timespec="seconds"), **record}
        text = json.dumps(_plain(record))
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as ledger:
                return _insert(ledger, text)
        except (OSError, sqlite3.Error) as error:
            warnings.warn(
                f"the trial ledger {self.path} cannot be written ({error}), so that this {record['kind']} is not "
                "counted: repair or remove the file, or make the folder writable",
                RuntimeWarning,
                stacklevel=2,
            )
            return None

    def _end(self, trial: Trial, kind: str, **how: str) -> None:
        if trial.row:
            self._append({"event": "ended", "kind": kind, "begun": trial.row.number, **how, **trial.result})

    def _read(self, *queries: str, values: tuple = ()) -> list[list[tuple]]:
        """Return the rows that each query finds, all at one moment; none if there is no ledger yet."""
        if not self.path.exists():
            return [[] for _ in queries]
        with closing(sqlite3.connect(self.path, timeout=_WAIT_S, isolation_level=None)) as ledger:
            ledger.execute("BEGIN")
            return [ledger.execute(query, values).fetchall() for query in queries]


def _insert(ledger: sqlite3.Connection, text: str) -> Row:
    ledger.execute("BEGIN IMMEDIATE")
    for statement in _SCHEMA:
        ledger.execute(statement)
    rows, previous = ledger.execute("SELECT rows, sha256 FROM head").fetchone()
    row = Row(rows + 1, _link(rows + 1, previous, text))
    ledger.execute(
        "INSERT INTO trials (number, previous, sha256, record) VALUES (?, ?, ?, ?)",
        (row.number, previous, row.sha256, text),
    )
    ledger.execute("UPDATE head SET rows = ?, sha256 = ?", row)
    ledger.execute("COMMIT")
    return row


def _counted(trials: Sequence[_Tried]) -> dict[str, Outcome | None]:
    """Return the trials that differ, by the sha256 of their config, without fits that a backtest has in it."""
    trials = [one for one in trials if one.status != "refused"]
    used = {sha256 for one in trials if one.kind == "backtest" for sha256 in json.loads(one.used)}
    inside = {one.config_sha256 for one in trials if one.made and used & set(json.loads(one.made))}
    found: dict[str, Outcome | None] = {}
    for one in trials:
        if one.config_sha256 in inside:
            continue
        if one.sharpe is not None:
            found[one.config_sha256] = Outcome(one.sharpe, one.observations)
        found.setdefault(one.config_sha256, None)
    return found


def _broken_links(rows: Sequence[tuple], heads: Sequence[tuple]) -> Iterator[str]:
    """Yield a sentence for each place where the chain of ``rows`` (number, previous, sha256, record) is broken."""
    last, last_sha256 = 0, _NOTHING
    for number, previous, sha256, text in rows:
        if number != last + 1:
            yield f"{_rows(last + 1, number - 1)} of the trial ledger {_were(last + 1, number - 1)} deleted."
        elif previous != last_sha256:
            yield f"Row {number:,} of the trial ledger does not follow the one before it: rows were altered."
        if sha256 != _link(number, previous, text):
            yield f"Row {number:,} of the trial ledger was altered."
        last, last_sha256 = number, sha256
    count, head_sha256 = heads[0] if heads else (0, _NOTHING)
    if count > last:
        yield f"{_rows(last + 1, count)} of the trial ledger {_were(last + 1, count)} deleted."
    elif (count, head_sha256) != (last, last_sha256):
        yield "The trial ledger does not end as it should: rows were altered or added by other hands."


def _rows(first: int, last: int) -> str:
    return f"Row {first:,}" if first == last else f"Rows {first:,} to {last:,}"


def _were(first: int, last: int) -> str:
    return "was" if first == last else "were"


def _link(number: int, previous: str, text: str) -> str:
    return _sha256(f"{number}\n{previous}\n{text}")


def _sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def _plain(value: Mapping) -> dict:
    """Return what JSON makes of a value."""
    return json.loads(to_json(dict(value)))


def _status(error: BaseException) -> str:
    if _was_aborted(error):
        return "aborted"
    return "refused" if isinstance(error, HissbtError) and error.exit_code == 2 else "failed"


def _was_aborted(error: BaseException | None) -> bool:
    """Tell whether somebody stopped the trial, also where that was turned into an error of ours."""
    return error is not None and (not isinstance(error, Exception) or _was_aborted(error.__cause__))


def _named_by_runs(root: Path) -> dict[str, Row]:
    """Return the row that each run folder names, by the folder's name; some may name none."""
    found = {}
    for path in sorted(root.glob("*/run.json")):
        try:
            named = json.loads(path.read_text(encoding="utf-8")).get("trial")
            found[path.parent.name] = Row(named["number"], named["sha256"])
        except (OSError, ValueError, AttributeError, TypeError, KeyError):
            continue
    return found
