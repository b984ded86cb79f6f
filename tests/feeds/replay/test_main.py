"""The command, as a process of its own."""

import json
import os
import signal
import subprocess
import sys
import urllib.request

import pytest

from hissbt.feeds.replay.__main__ import main


@pytest.fixture
def bars_file(hourly_bars, tmp_path):
    path = tmp_path / "BTCUSDT_1h.csv"
    hourly_bars.frame.set_axis(hourly_bars.open_times.rename("timestamp")).to_csv(path)
    return path


def answer(url: str, question: str) -> dict:
    with urllib.request.urlopen(f"{url}/v5/market/{question}") as reply:
        return json.load(reply)


@pytest.mark.skipif(os.name == "nt", reason="signals of POSIX")
@pytest.mark.parametrize("end", [signal.SIGINT, signal.SIGTERM])
def test_it_tells_its_url_serves_and_ends_quietly(bars_file, hourly_bars, end):
    command = [sys.executable, "-m", "hissbt.feeds.replay", "--bars", bars_file, "--symbol", "BTCUSDT"]
    command += ["--timeframe", "1h", "--start", "2024-01-02", "--speed", "0", "--port", "0"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as process:
        line = process.stdout.readline()
        told = answer(line.split()[-1], "kline?category=linear&symbol=BTCUSDT&interval=60&limit=2")
        process.send_signal(end)
        rest, complaints = process.communicate(timeout=20)
    assert told["time"] == 1_704_153_600_000
    assert float(told["result"]["list"][1][4]) == hourly_bars.frame["close"].iloc[23]
    assert "1,200 bars" in line
    assert (process.returncode, rest, complaints) == (0, "", "")


@pytest.mark.parametrize(
    ("change", "complaint"),
    [
        (["--bars", "nowhere.csv"], "no file nowhere.csv"),
        (["--symbol", "BTC/USDT"], "bad symbol 'BTC/USDT'"),
        (["--timeframe", "2h"], "timeframe"),
        (["--port", "99999"], "no port 99999"),
        (["--start", "soon"], "not a time"),
        (["--speed", "5"], "needs --start"),
        (["--start", "2024-01-01", "--speed", "-1"], "speed"),
        (["--funding", "nowhere.csv"], "no file nowhere.csv"),
    ],
)
def test_bad_input_is_told_in_one_sentence(bars_file, capsys, change, complaint):
    code = main(["--bars", str(bars_file), "--symbol", "BTCUSDT", *change])
    told = capsys.readouterr()
    assert (code, told.out) == (2, "")
    assert complaint in told.err
    assert told.err.count("\n") == 1


def test_it_needs_no_backtrader_and_no_ccxt():
    code = "import sys, hissbt.feeds.replay.__main__; print({'backtrader', 'ccxt', 'torch'} & sys.modules.keys())"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
