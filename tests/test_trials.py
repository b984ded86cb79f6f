"""Every trial is counted once, whatever became of it, and what is taken out of the ledger is missed."""

import json
import os
import sqlite3
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hissbt.errors import ConfigError, TrainingError
from hissbt.trials import FILE, Outcome, Trials

ON = {"symbol": "BTCUSDT", "timeframe": "1h"}

# Enters ten trials, and dies in the last of them without a chance to tidy up.
KILLED = """
import os, signal, sys
from hissbt.trials import Trials
folder, name = sys.argv[1:]
for seed in range(10):
    with Trials(folder).trial("backtest", {"name": name, "seed": seed}, symbol="BTCUSDT", timeframe="1h"):
        if seed == 9:
            os.kill(os.getpid(), getattr(signal, "SIGKILL", signal.SIGTERM))
"""


@pytest.fixture
def trials(tmp_path):
    return Trials(tmp_path / "runs")


def enter(
    trials: Trials, seed: int, *, kind="backtest", sharpe=None, observations=250, bundles=(), made=None, **on
):
    """Enter a trial that ends well."""
    with trials.trial(kind, {"seed": seed}, bundles=bundles, **(ON | on)) as trial:
        trial.result |= {"sharpe": sharpe, "observations": observations}
        if made:
            trial.result["bundles"] = [made]
    return trial


def count(trials: Trials) -> int:
    return len(trials.tried(**ON))


def tamper(trials: Trials, *statements: str) -> None:
    """Do what somebody could who knows SQLite."""
    with closing(sqlite3.connect(trials.path)) as ledger, ledger:
        ledger.execute("DROP TRIGGER IF EXISTS never_altered")
        ledger.execute("DROP TRIGGER IF EXISTS never_deleted")
        for statement in statements:
            ledger.execute(statement)


def rows(trials: Trials) -> list[dict]:
    with closing(sqlite3.connect(trials.path)) as ledger:
        return [json.loads(text) for (text,) in ledger.execute("SELECT record FROM trials ORDER BY number")]


def leave_run(trials: Trials, trial) -> None:
    """Leave the folder of a run behind that names its row."""
    folder = trials.root / f"run-{trial.row.number}"
    folder.mkdir()
    (folder / "run.json").write_text(json.dumps({"trial": trial.row._asdict()}))


# --- what counts


def test_before_the_first_trial_there_is_none(trials):
    assert trials.tried(**ON) == {}
    assert trials.verify() == []
    assert not trials.root.exists()


def test_a_trial_has_a_row_for_its_begin_and_one_for_its_end(trials):
    trial = enter(trials, 7, sharpe=0.1)
    begun, ended = rows(trials)
    assert begun["event"] == "begun"
    assert begun["config"] == {"seed": 7}
    assert begun["config_sha256"] == trial.config_sha256
    assert ended["event"] == "ended"
    assert ended["begun"] == trial.row.number == 1
    assert ended["status"] == "done"
    assert trials.tried(**ON) == {trial.config_sha256: Outcome(0.1, 250)}
    assert trials.verify() == []


@pytest.mark.parametrize(
    ("error", "status"),
    [(ValueError("a bad bar"), "failed"), (KeyboardInterrupt(), "aborted"), (SystemExit(1), "aborted")],
)
def test_what_failed_or_was_aborted_counts(trials, error, status):
    with pytest.raises(type(error)), trials.trial("backtest", {}, **ON):
        raise error
    assert rows(trials)[1]["status"] == status
    assert list(trials.tried(**ON).values()) == [None]


def test_what_was_refused_as_bad_input_is_entered_and_does_not_count(trials):
    with pytest.raises(ConfigError), trials.trial("backtest", {}, **ON):
        raise ConfigError("fraction is 'half'")
    assert rows(trials)[1]["status"] == "refused"
    assert count(trials) == 0
    with pytest.raises(TrainingError), trials.trial("fit", {}, **ON):
        raise TrainingError("the loss was never finite")
    assert rows(trials)[3]["status"] == "failed"
    assert count(trials) == 1


def test_an_abort_that_was_turned_into_an_error_is_one(trials):
    with pytest.raises(ValueError, match="interrupted"), trials.trial("fit", {}, **ON):
        raise ValueError("interrupted") from KeyboardInterrupt()
    assert rows(trials)[1]["status"] == "aborted"
    assert rows(trials)[1]["error"] == "ValueError: interrupted"


def test_the_same_trial_done_again_counts_once_also_if_it_fails_then(trials):
    enter(trials, 1, sharpe=0.1)
    enter(trials, 1, sharpe=0.1)
    with pytest.raises(ValueError, match="no memory"), trials.trial("backtest", {"seed": 1}, **ON):
        raise ValueError("no memory")
    assert list(trials.tried(**ON).values()) == [Outcome(0.1, 250)]


def test_the_order_of_settings_makes_no_other_trial(trials):
    for config in {"a": 1, "b": 2}, {"b": 2, "a": 1}:
        with trials.trial("backtest", config, **ON):
            pass
    assert count(trials) == 1


def test_seeds_count(trials):
    for seed in range(5):
        enter(trials, seed)
    assert count(trials) == 5


@pytest.mark.parametrize("elsewhere", [{"symbol": "ETHUSDT"}, {"timeframe": "4h"}])
def test_trials_on_other_bars_do_not_count(trials, elsewhere):
    enter(trials, 1)
    enter(trials, 2, **elsewhere)
    assert count(trials) == 1
    assert len(trials.tried(**(ON | elsewhere))) == 1


def test_a_fit_counts_until_its_bundle_is_backtested(trials):
    enter(trials, 1, kind="fit", made="aaa")
    enter(trials, 2, kind="fit", made="bbb")
    assert count(trials) == 2
    tested = enter(trials, 3, bundles=["aaa"], sharpe=0.2)
    assert count(trials) == 2
    assert trials.tried(**ON)[tested.config_sha256] == Outcome(0.2, 250)


def test_a_fit_that_was_interrupted_and_resumed_is_one(trials):
    with pytest.raises(KeyboardInterrupt), trials.trial("fit", {"seed": 1}, **ON):
        raise KeyboardInterrupt
    enter(trials, 1, kind="fit", made="aaa")
    assert count(trials) == 1
    enter(trials, 2, bundles=["aaa"])
    assert count(trials) == 1


def test_what_has_no_sharpe_ratio_is_a_trial_without_one(trials):
    enter(trials, 1, sharpe=float("nan"))
    assert list(trials.tried(**ON).values()) == [None]


# --- many at once


def test_processes_that_enter_at_once_and_are_killed_are_all_counted(trials):
    started = [
        subprocess.Popen([sys.executable, "-c", KILLED, str(trials.root), str(number)]) for number in range(3)
    ]
    assert all(process.wait(timeout=120) != 0 for process in started)
    assert count(trials) == 30
    assert trials.verify() == []
    assert [row["event"] for row in rows(trials)].count("ended") == 27


# --- what is noticed


@pytest.fixture
def five(trials):
    for seed in range(5):
        enter(trials, seed, sharpe=0.01 * seed)
    return trials


def test_rows_can_neither_be_deleted_nor_altered_by_mistake(five):
    with closing(sqlite3.connect(five.path)) as ledger:
        for statement in "DELETE FROM trials WHERE number = 3", "UPDATE trials SET record = '{}'":
            with pytest.raises(sqlite3.IntegrityError, match="a trial is never"):
                ledger.execute(statement)


@pytest.mark.parametrize(
    ("statement", "said"),
    [
        ("DELETE FROM trials WHERE number = 3", "Row 3 of the trial ledger was deleted."),
        ("DELETE FROM trials WHERE number IN (3, 4)", "Rows 3 to 4 of the trial ledger were deleted."),
        ("DELETE FROM trials WHERE number = 1", "Row 1 of the trial ledger was deleted."),
        ("DELETE FROM trials WHERE number = 10", "Row 10 of the trial ledger was deleted."),
        ("DELETE FROM trials WHERE number > 6", "Rows 7 to 10 of the trial ledger were deleted."),
        ("UPDATE trials SET record = '{}' WHERE number = 4", "Row 4 of the trial ledger was altered."),
        ("UPDATE trials SET sha256 = 'x' WHERE number = 4", "Row 4 of the trial ledger was altered."),
        ("UPDATE head SET rows = 8", "does not end as it should"),
        ("DELETE FROM head", "does not end as it should"),
        ("DROP TABLE head", "cannot be read (no such table: head)"),
    ],
)
def test_what_was_taken_out_or_altered_is_named(five, statement, said):
    tamper(five, statement)
    assert said in five.verify()[0]


@settings(deadline=None, max_examples=25)  # each writes to the disk
@given(st.data())
def test_no_row_can_be_left_out_unnoticed(tmp_path_factory, data):
    trials = Trials(tmp_path_factory.mktemp("ledger"))
    for seed in range(data.draw(st.integers(1, 3))):
        enter(trials, seed)
    gone = data.draw(st.sets(st.integers(1, len(rows(trials))), min_size=1))
    tamper(trials, f"DELETE FROM trials WHERE number IN ({', '.join(map(str, gone))})")
    assert trials.verify()


def test_the_deletion_of_the_last_row_is_remembered_when_others_follow(five):
    tamper(five, "DELETE FROM trials WHERE number = 10")
    enter(five, 6)
    assert five.verify() == ["Row 10 of the trial ledger was deleted."]


def test_who_writes_the_end_anew_is_given_away_by_the_runs(five):
    with closing(sqlite3.connect(five.path)) as ledger:
        ((honest,),) = ledger.execute("SELECT sha256 FROM head")
    leave_run(five, enter(five, 5))
    assert five.verify() == []
    tamper(five, "DELETE FROM trials WHERE number > 10", f"UPDATE head SET rows = 10, sha256 = '{honest}'")
    said = "Row 11 of the trial ledger is not the one of the run run-11: rows were deleted, or the run comes from"
    assert five.verify() == [f"{said} elsewhere."]
    enter(five, 6)
    assert five.verify() == [f"{said} elsewhere."]


def test_a_ledger_that_was_removed_is_missed_by_the_runs(five):
    leave_run(five, enter(five, 5))
    five.path.unlink()
    assert "Row 11 of the trial ledger is not the one of the run run-11" in five.verify()[0]


def test_a_run_that_names_no_row_is_no_fault(five):
    for name, text in ("old", "{}"), ("torn", "{"), ("strange", "[1]"), ("unentered", '{"trial": null}'):
        (five.root / name).mkdir()
        (five.root / name / "run.json").write_text(text)
    assert five.verify() == []


# --- it never stops a trial


@pytest.mark.parametrize("damage", ["text", "a folder", "half of the file", "altered rows"])
def test_a_ledger_that_cannot_be_written_or_read_stops_no_trial(five, damage):
    if damage == "altered rows":
        tamper(five, """UPDATE trials SET record = json_set(record, '$.bundles', 5)""")
        assert count(five) == 0
        assert "Row 1 of the trial ledger was altered." in five.verify()
        return
    content = five.path.read_bytes()
    five.path.unlink()
    if damage == "a folder":
        five.path.mkdir()
    else:
        five.path.write_bytes(b"no database at all" * 100 if damage == "text" else content[: len(content) // 2])
    with pytest.warns(RuntimeWarning, match="cannot be written .* this backtest is not counted") as caught:
        trial = enter(five, 9)
    assert len(caught) == 1
    assert trial.row is None
    assert count(five) == 0
    assert "The trial ledger trials.sqlite cannot be read" in five.verify()[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_is_not_writable_stops_no_trial(five):
    five.root.chmod(0o555)
    five.path.chmod(0o444)
    with pytest.warns(RuntimeWarning, match="cannot be written"):
        enter(five, 9)
    assert count(five) == 5


def test_by_default_it_stands_where_the_environment_says_or_in_runs(monkeypatch, tmp_path):
    monkeypatch.setenv("HISSBT_RUNS", str(tmp_path))
    assert Trials().path == tmp_path / FILE
    monkeypatch.delenv("HISSBT_RUNS")
    assert Trials().path == Path("runs") / FILE
