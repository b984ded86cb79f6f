import json
from concurrent.futures import ThreadPoolExecutor

import pandas as pd
import pytest

from hissbt.reports.run_folder import provenance, write_run_folder

LEDGER = pd.DataFrame(
    {
        "close_time": pd.date_range("2024-01-01", periods=3, tz="UTC"),
        "value": [1.0, 0.1 + 0.2, 1 / 3],
        "guard": "",
    }
)
TRADES = pd.DataFrame(
    {"entry_time": LEDGER["close_time"], "exit_time": pd.NaT, "pnl_net": [0.1, -0.2, float("nan")]}
)


def write(out, **changes):
    content = {
        "run": {"seed": 0},
        "metrics": {"sharpe": float("nan"), "profit_factor": float("inf"), "trades": 3},
        "ledger": LEDGER,
        "trades": TRADES,
        "orders": TRADES,
        "fills": TRADES,
        "pages": dict.fromkeys(("tearsheet.html", "report.html"), lambda path: path.write_text("<html></html>")),
    }
    return write_run_folder(out, "my strategy.py", "BTC/USDT:USDT", **content | changes)


def test_the_folder_holds_every_file_under_a_name_that_any_system_takes(tmp_path):
    folder = write(tmp_path / "runs")
    assert sorted(file.name for file in folder.iterdir()) == [
        "fills.csv",
        "ledger.parquet",
        "metrics.json",
        "orders.csv",
        "report.html",
        "run.json",
        "tearsheet.html",
        "trades.csv",
    ]
    stamp, rest = folder.name.split("-", 1)
    assert pd.Timestamp(stamp).tzinfo is not None
    assert rest == "my-strategy-py-BTCUSDTUSDT"
    assert [each.name for each in (tmp_path / "runs").iterdir()] == [folder.name]


def test_what_is_not_a_number_is_null(tmp_path):
    text = (write(tmp_path) / "metrics.json").read_text()
    assert json.loads(text, parse_constant=pytest.fail) == {"sharpe": None, "profit_factor": None, "trades": 3}


def test_the_tables_can_be_read_back(tmp_path):
    folder = write(tmp_path)
    pd.testing.assert_frame_equal(pd.read_parquet(folder / "ledger.parquet"), LEDGER)
    trades = pd.read_csv(folder / "trades.csv", parse_dates=["entry_time"])
    assert trades["pnl_net"].tolist() == pytest.approx([0.1, -0.2, float("nan")], nan_ok=True)
    assert (trades["entry_time"] == TRADES["entry_time"]).all()


def test_runs_that_start_at_once_get_folders_of_their_own(tmp_path):
    with ThreadPoolExecutor(8) as pool:
        folders = list(pool.map(lambda i: write(tmp_path, run={"seed": i}), range(16)))
    assert len(set(folders)) == 16
    assert [json.loads((folder / "run.json").read_text())["seed"] for folder in folders] == list(range(16))


def test_a_run_that_cannot_be_written_leaves_nothing_behind(tmp_path):
    def fail(path):
        path.write_text("half")
        raise RuntimeError("no page")

    with pytest.raises(RuntimeError, match="no page"):
        write(tmp_path, pages={"page.html": fail})
    assert list(tmp_path.iterdir()) == []


def test_the_provenance_names_versions_and_revision():
    found = provenance()
    assert found["versions"]["backtrader"].startswith("1.9.78")
    assert found["git_revision"] is None or len(found["git_revision"].removesuffix("-dirty")) == 40
