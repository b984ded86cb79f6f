"""The command as its users meet it: results, refusals in one sentence, nothing half-written."""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from bundles import random_bundle

from hissbt.bundle import ModelBundle
from hissbt.cli import main
from hissbt.training.checkpoint import SafeCheckpointIO
from hissbt.trials import FILE as TRIALS

SMALL = (
    "--set window=64 --set burn_in=16 --set max_epochs=2 --set epoch_steps=2 --set network.d_model=8 "
    '--set network.d_state=8 --set \'features=["log_return","range"]\''
)
SPAN = "--from 2024-01-05 --until 2024-01-08"
SOON = "--until 2024-01-03"
RUN_FILES = {
    "fills.csv",
    "run.json",
    "metrics.json",
    "ledger.parquet",
    "report.html",
    "trades.csv",
    "orders.csv",
    "tearsheet.html",
}

OWN = """
import backtrader as bt
from own_sizes import UNITS

class Own(bt.Strategy):
    params = (("units", UNITS),)

    def next(self):
        if not self.position:
            self.buy(size=self.p.units)

class Fails(bt.Strategy):
    def next(self):
        raise ValueError("two\\nlines")

class Interrupted(bt.Strategy):
    def next(self):
        raise KeyboardInterrupt
"""


@dataclass
class Answer:
    """What a command printed and its exit code."""

    code: int
    out: str
    err: str

    def json(self) -> dict:
        """Parse the one JSON object that stdout has to be; NaN and infinities are no JSON."""
        return json.loads(self.out, parse_constant=lambda name: pytest.fail(f"{name} is no JSON"))


@pytest.fixture
def hissbt(capsys):
    """Run a command line in this process."""

    def run(line: str) -> Answer:
        with pytest.raises(SystemExit) as end:
            main(shlex.split(line))
        return Answer(end.value.code or 0, *capsys.readouterr())

    return run


@pytest.fixture(scope="module")
def made(hourly_bars, tmp_path_factory) -> Path:
    """A folder with good and bad bars, bundles, settings and strategies."""
    folder = tmp_path_factory.mktemp("made")
    write_bars(folder, hourly_bars)
    write_bundles(folder, hourly_bars)
    (folder / "own.py").write_text(OWN)
    (folder / "own_sizes.py").write_text("UNITS = 7")
    (folder / "broken.py").write_text("def next(:")
    (folder / "broken.toml").write_text("horizon =")
    (folder / "unknown.toml").write_text("horzon = 2")
    (folder / "notes").mkdir()
    (folder / "notes" / "precious.txt").write_text("keep me")
    return folder


@pytest.fixture
def folder(made, tmp_path, monkeypatch) -> Path:
    """A copy of it to work in."""
    shutil.copytree(made, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(autouse=True)
def _forget_imports(monkeypatch):
    """Let every test import its own user's files."""
    monkeypatch.setattr(sys, "path", sys.path.copy())
    yield
    sys.modules.pop("own_sizes", None)


def write_bars(folder: Path, bars) -> None:
    frame = bars.frame.set_axis(bars.open_times.rename("timestamp"), axis=0)
    wrong = frame.copy()
    wrong.iloc[7, :4] = np.nan
    negative = frame.copy()
    negative.iloc[7, :4] *= -1
    tables = {
        "SPX.csv": frame,
        "few.csv": frame[:10],
        "unsorted.csv": frame[::-1],
        "duplicate.csv": pd.concat([frame[:5], frame[4:]]),
        "nan.csv": wrong,
        "negative.csv": negative,
        "no_volume.csv": frame.drop(columns="volume"),
        "no_rows.csv": frame[:0],
    }
    for name, table in tables.items():
        table.to_csv(folder / name)
    (folder / "empty.csv").touch()
    (folder / "damaged.parquet").write_bytes(bytes(range(256)))
    (folder / "folder.csv").mkdir()


def write_bundles(folder: Path, bars) -> None:
    bundle = random_bundle(bars[:100])
    (first, *_) = bundle.weights
    bundles = {
        "model": bundle,
        "oracle": replace(bundle, kind="oracle"),
        "daily": replace(bundle, timeframe="1d"),
        "rate": with_feature(bundle, "column:rate"),
        "lacking": replace(bundle, weights={k: w for k, w in bundle.weights.items() if k != first}),
        "truncated": bundle,
        "altered": bundle,
    }
    for name, each in bundles.items():
        each.save(folder / name)
    weights = folder / "truncated" / "weights.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])
    content = folder / "altered" / "bundle.json"
    content.write_text(content.read_text().replace('"horizon": 1', '"horizon": 2'))


def with_feature(bundle: ModelBundle, name: str) -> ModelBundle:
    """Return a bundle that reads one feature more, as far as its description goes."""
    normalizer = replace(bundle.normalizer, mean=(*bundle.normalizer.mean, 0.0), std=(*bundle.normalizer.std, 1.0))
    return replace(bundle, features=(*bundle.features, name), normalizer=normalizer)


def contents(folder: Path) -> dict:
    """Return every path below a folder with its bytes, less what Python caches and where trials are entered."""
    left_out = "__pycache__", TRIALS
    paths = (path for path in folder.rglob("*") if not set(left_out) & set(path.parts) and path != folder / "runs")
    return {path: path.read_bytes() if path.is_file() else None for path in paths}


HOLD = "backtest buy_and_hold --bars SPX.csv"
HISS = "backtest hiss --bars SPX.csv"
TRAIN = f"train hiss --bars SPX.csv --out bundle {SMALL}"

BAD_INPUT = {
    # bars
    "backtest buy_and_hold --bars nowhere.csv": "there is no file nowhere.csv",
    "backtest buy_and_hold --bars empty.csv": "empty.csv is empty",
    "backtest buy_and_hold --bars no_rows.csv": "no_rows.csv, there are no bars",
    "backtest buy_and_hold --bars folder.csv": "folder.csv is a folder",
    "backtest buy_and_hold --bars own.py": "own.py is no file of bars",
    "backtest buy_and_hold --bars damaged.parquet": "damaged.parquet cannot be read",
    "backtest buy_and_hold --bars bybit:BTC/USDT:USDT": "unknown timeframe 'USDT'.* bybit:BTC/USDT:USDT:1h",
    "backtest buy_and_hold --bars bybi:BTC/USDT:USDT:1h": "did you mean bybit",
    "backtest buy_and_hold --bars unsorted.csv": "row 1 .* is earlier than the row before it",
    "backtest buy_and_hold --bars duplicate.csv": "row 5 .* repeats the time of the row before it",
    "backtest buy_and_hold --bars nan.csv": "row 7 .* missing or not finite",
    "backtest buy_and_hold --bars negative.csv": "row 7 .* a price of zero or less",
    "backtest buy_and_hold --bars no_volume.csv": "no column 'volume'",
    "train hiss --out bundle --bars nan.csv": "row 7 .* missing or not finite",
    f"{HOLD} --timeframe 4h": "wrong timeframe 4h: the rows are 1h apart",
    f"{HOLD} --timeframe soon": "unknown timeframe 'soon'",
    f"{HOLD} --timeframe 999999999999d": "longer than any series",
    f"{HOLD} --stamp middle": "unknown stamp 'middle'",
    # spans and account
    f"{HOLD} --from someday": "'someday' is not a time",
    f"{HOLD} --until 2024-13-45": "'2024-13-45' is not a time",
    f"{HOLD} --from 2024-01-09 --until 2024-01-05": "no bars between 2024-01-09 and 2024-01-05",
    f"{HOLD} --from 2034-01-01": "no bars between 2034-01-01 and the end",
    f"{HOLD} --cash nan": "cash is nan",
    f"{HOLD} --cash -5": "cash is -5",
    f"{HOLD} --cost taker=5.5": "write a fraction of notional",
    f"{HOLD} --cost commission=0.001": "unknown cost 'commission': choose from taker, maker",
    f"{HOLD} --cost impact=big": "write the coefficient of the square-root law",
    f"{HOLD} --cost leverage": "not of the form KEY=VALUE",
    f"{HOLD} --funding nowhere.csv": "nowhere.csv",
    # strategies and their parameters
    "backtest his --bars SPX.csv": "unknown strategy 'his': choose buy_and_hold, hiss",
    "backtest nowhere.py:Own --bars SPX.csv": "there is no strategy file",
    "backtest own.py:Owm --bars SPX.csv": "own.py has no Backtrader strategy 'Owm': it has Own",
    "backtest own.py:UNITS --bars SPX.csv": "own.py has no Backtrader strategy 'UNITS'",
    "backtest broken.py:Own --bars SPX.csv": "cannot import .*broken.py, it raises SyntaxError",
    f"{HOLD} --set fraction": "--set fraction is not of the form KEY=VALUE",
    f"{HOLD} --set =1": "--set =1 is not of the form KEY=VALUE",
    f"{HOLD} --set fractoin=1": "BuyAndHold has no parameter 'fractoin': it has fraction",
    f"{HOLD} --set fraction=half": "parameter fraction of BuyAndHold is 'half': write a number above 0",
    f"{HOLD} --set fraction=NaN": "parameter fraction of BuyAndHold is nan",
    f"{HISS} --model model --set prob_long=abc": "parameter prob_long of HiSSStrategy is 'abc'",
    f"{HISS} --model model --set max_fraction=2": "parameter max_fraction .* is 2: .* at most 1",
    f"{HISS} --model model --set stop_volatility=-1": "parameter stop_volatility .* is -1: .* above 0",
    f"{HISS} --model model --set max_drawdown=1": "max_drawdown of HiSSStrategy is 1",
    # bundles
    HISS: "has no model: pass --model",
    f"{HISS} --model nowhere": "there is no model bundle at nowhere",
    f"{HISS} --model SPX.csv": "there is no model bundle at SPX.csv",
    f"{HISS} --model notes": "cannot read bundle.json of the bundle notes",
    f"{HISS} --model oracle": "'oracle' bundle",
    f"{HISS} --model daily": "wrong timeframe: the model was trained on bars of 1d, these are of 1h",
    f"{HISS} --model rate": "the model reads 'rate'",
    f"{HISS} --model lacking": "the weights of this hiss bundle do not fit its config",
    f"{HISS} --model truncated": "weights.safetensors in the bundle truncated is damaged",
    f"{HISS} --model altered": "bundle.json in the bundle altered was altered",
    f"{HISS} --set model=5": "the model cannot be 5",
    f"{HOLD} --model model": "BuyAndHold uses no model",
    "backtest hiss --bars few.csv --model model": "too few bars: the model needs 20 .* there are 10",
    f"{HISS} --model model --from 2024-01-01": "too few bars before 2024-01-01",
    # training
    f"train oracle --bars SPX.csv --out bundle {SMALL}": "unknown network 'oracle': choose one of .*hiss",
    "train hiss --bars few.csv --out bundle": "10 bars are too few to train on",
    f"{TRAIN} --train-until someday": "'someday' is not a time",
    f"{TRAIN} --train-until 1980-01-01": "no bars between the start and 1980-01-01",
    f"{TRAIN} --set windows=9": "unknown training setting 'windows': choose from features, network",
    f"{TRAIN} --set window=wide": "training setting 'window' cannot be 'wide': input should be a valid integer",
    f"{TRAIN} --set lr=inf": "training setting 'lr' cannot be 'inf'",
    f"{TRAIN} --set burn_in=64": "burn_in 64 must be less than window 64: set both",
    f"{TRAIN} --set features=range": "training setting 'features' cannot be 'range': write a list",
    f"{TRAIN} --set 'features=[\"rnage\"]'": "unknown feature 'rnage'",
    f"{TRAIN} --set 'features=[\"column:rate\"]'": "no extra column 'rate'",
    f"{TRAIN} --set loss_weights=[1,2]": "'loss_weights' cannot be .*: write learned, or a list of three numbers",
    f"{TRAIN} --set network.d_modle=9": "unknown network setting 'd_modle'",
    f"{TRAIN} --set network.n_features=9": "leave n_features out",
    "train hiss --bars SPX.csv --out b --set network=9 --set network.d_model=9": "network was given one value",
    f"{TRAIN} --config nowhere.toml": "cannot read the config file nowhere.toml",
    f"{TRAIN} --config broken.toml": "the config file broken.toml is not valid TOML",
    f"{TRAIN} --config unknown.toml": "unknown training setting 'horzon'",
    f"{TRAIN} --resume": "there is no interrupted run in bundle.checkpoint",
    # research
    "compare": "preset rivals is run on bars: name them with --bars",
    "compare --bars SPX.csv --preset rival": "unknown preset 'rival': choose one of rivals, volatility",
    "compare --bars SPX.csv --also SPX.csv": "preset rivals is run on one symbol",
    "compare --bars SPX.csv --preset three-scales": "preset three-scales makes its own series",
    "walkforward hiss --bars SPX.csv": "missing option '--from'; see hissbt walkforward --help",
    "walkforward buy_and_hold --bars SPX.csv --from 2024-01-20": "uses no model, so there is nothing to train",
    "walkforward hiss --bars SPX.csv --from 2024-01-20 --retrain soon": "unknown timeframe 'soon'",
    "walkforward hiss --bars SPX.csv --from 2024-01-20 --retrain 0": "a test of 0 bars",
    "walkforward hiss --bars SPX.csv --from 2024-01-20 --kind hvae": "an hvae forecasts nothing",
    "walkforward hiss --bars SPX.csv --from 2024-01-20 --train horizn=2": "unknown training setting 'horizn'",
    "sweep buy_and_hold --bars SPX.csv --grid fraction": "--grid fraction is not of the form KEY=VALUE,VALUE",
    "sweep buy_and_hold --bars SPX.csv --grid fractoin=1,2": "has no parameter 'fractoin'",
    "sweep buy_and_hold --bars SPX.csv --grid fraction=1,0.5 --backend slurm": "slurm",
    "analyze oracle --bars SPX.csv": "this is a oracle bundle, which has no levels",
    "analyze nowhere --bars SPX.csv": "there is no model bundle at nowhere",
    # where results go
    "compare --bars SPX.csv --out SPX.csv": "SPX.csv is a file",
    "analyze model --bars SPX.csv --out SPX.csv": "SPX.csv is a file",
    "sweep buy_and_hold --bars SPX.csv --grid fraction=1,0.5 --out SPX.csv": "SPX.csv is a file",
    "walkforward hiss --bars SPX.csv --from 2024-01-20 --out SPX.csv": "SPX.csv is a file",
    f"{HOLD} --out SPX.csv": "SPX.csv is a file",
    f"{HOLD} --out SPX.csv/deeper": "SPX.csv is a file",
    f"train hiss --bars SPX.csv --out SPX.csv {SMALL}": "SPX.csv is a file",
    f"train hiss --bars SPX.csv --out notes {SMALL}": "notes holds precious.txt, no part of a bundle",
    "demo --out SPX.csv": "SPX.csv is a file",
    # the line itself
    "bactest": "no such command 'bactest'.*; see hissbt --help",
    "--fast": "no such option: --fast; see hissbt --help",
    "train": "missing argument 'MODEL'; see hissbt train --help",
    "backtest hiss": "missing option '--bars'; see hissbt backtest --help",
    "backtest hiss --bars": "'--bars' requires an argument",
    f"{HOLD} --cash much": "invalid value for '--cash'.*; see hissbt backtest --help",
    f"{HOLD} more": r"unexpected extra argument\(s\) \(more\)",
}


@pytest.mark.parametrize("line", BAD_INPUT)
def test_bad_input_gets_one_sentence_and_leaves_nothing_behind(hissbt, made, monkeypatch, line):
    monkeypatch.chdir(made)
    before = contents(made)
    answer = hissbt(line)
    assert answer.code == 2
    assert answer.out == ""
    assert re.fullmatch(f"hissbt: .*{BAD_INPUT[line]}.*\n", answer.err)
    assert contents(made) == before


@pytest.mark.parametrize(
    "line", [f"--debug {HOLD} --cash 0", f"backtest --debug {HOLD[9:]} --cash 0", f"{HOLD} --cash 0 --debug"]
)
def test_debug_adds_the_traceback_wherever_it_stands(hissbt, folder, line):
    answer = hissbt(line)
    assert answer.code == 2
    assert answer.err.startswith("Traceback")
    assert "in run_backtest" in answer.err
    assert answer.err.endswith("\nhissbt: cash is 0.0: write an amount above 0\n")


def test_a_failing_strategy_is_named_by_file_and_line(hissbt, folder):
    answer = hissbt(f"backtest own.py:Fails --bars SPX.csv {SOON}")
    assert answer.code == 1
    assert answer.err == (
        f"hissbt: ValueError at {folder / 'own.py'}:14 (two lines): add --debug for the traceback\n"
    )
    assert [path.name for path in (folder / "runs").iterdir()] == [TRIALS]
    assert "in next" in hissbt(f"backtest own.py:Fails --bars SPX.csv {SOON} --debug").err


def test_ctrl_c_ends_a_backtest_without_a_trace(hissbt, folder):
    answer = hissbt(f"backtest own.py:Interrupted --bars SPX.csv {SOON}")
    assert (answer.code, answer.err) == (130, "hissbt: interrupted\n")
    assert [path.name for path in (folder / "runs").iterdir()] == [TRIALS]


@pytest.fixture
def full_disk():
    """Let no file grow beyond 4 kB, as if there were no room."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, limits[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, limits)


@pytest.mark.parametrize("line", [f"{HOLD} {SOON}", TRAIN])
def test_a_full_disk_is_a_failure_that_leaves_no_files(hissbt, folder, full_disk, line):
    before = contents(folder)
    answer = hissbt(line)
    assert answer.code == 1
    assert re.fullmatch(
        r"hissbt: cannot read or write .*: look at the disk and its permissions", last_line(answer)
    )
    assert contents(folder).keys() == before.keys()


def test_a_training_that_diverges_is_a_failure_that_leaves_nothing(hissbt, folder):
    before = contents(folder)
    answer = hissbt(f"{TRAIN} --set lr=1e30")
    assert answer.code == 1
    assert last_line(answer).startswith("hissbt: the validation loss was never finite")
    assert contents(folder) == before


def test_checkpoints_never_replace_what_is_not_ours(hissbt, folder):
    (folder / "notes").rename(folder / "bundle.checkpoint")
    assert "bundle.checkpoint holds precious.txt" in hissbt(TRAIN).err
    assert (folder / "bundle.checkpoint" / "precious.txt").exists()


@pytest.fixture
def ctrl_c_after_two_epochs(monkeypatch):
    """Press Ctrl-C when the second checkpoint is on disk, until ``undo`` is called."""
    save = SafeCheckpointIO.save_checkpoint

    def save_and_interrupt(self, checkpoint, path, storage_options=None):
        save(self, checkpoint, path, storage_options)
        if Path(path).name == "last.ckpt" and checkpoint["epoch"] == 1:
            raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(SafeCheckpointIO, "save_checkpoint", save_and_interrupt)
        yield patch


def test_an_interrupted_training_continues_with_resume(hissbt, folder, ctrl_c_after_two_epochs):
    longer = f"{TRAIN} --set max_epochs=4 --set patience=4"
    answer = hissbt(longer)
    assert answer.code == 1
    assert last_line(answer) == "hissbt: training was interrupted: the same with --resume continues it"
    assert not (folder / "bundle").exists()
    ctrl_c_after_two_epochs.undo()

    assert "used other bars or settings" in hissbt(f"{longer} --set seed=5 --resume").err
    resumed = hissbt(f"{longer} --resume --json").json()
    assert not (folder / "bundle.checkpoint").exists()
    uninterrupted = hissbt(f"{longer} --json".replace("--out bundle", "--out whole")).json()
    assert resumed["sha256"] == uninterrupted["sha256"]


def test_a_damaged_checkpoint_is_said_to_be(hissbt, folder, ctrl_c_after_two_epochs):
    hissbt(TRAIN)
    tensors = folder / "bundle.checkpoint" / "last.ckpt" / "tensors.safetensors"
    tensors.write_bytes(tensors.read_bytes()[:100])
    answer = hissbt(f"{TRAIN} --resume")
    assert (answer.code, last_line(answer)[:50]) == (1, "hissbt: the checkpoint bundle.checkpoint/last.ckpt")


def last_line(answer: Answer) -> str:
    """Return the last line of stderr: a progress bar may stand before it."""
    return answer.err.splitlines()[-1]


def test_training_and_backtest_end_to_end(hissbt, folder):
    (folder / "settings.toml").write_text("horizon = 2\nmax_epochs = 9\n[network]\ndropout = 0.1\n")
    answer = hissbt(f"{TRAIN} --config settings.toml --train-until 2024-01-20 --json")
    trained = answer.json()
    assert answer.code == 0
    assert "training" in answer.err
    bundle = ModelBundle.load("bundle")
    assert trained["folder"] == "bundle"
    assert trained["sha256"] == bundle.sha256
    assert bundle.horizon == 2
    assert bundle.config["d_model"] == [8, 8, 8]
    assert bundle.config["dropout"] == 0.1
    assert bundle.training_span["end"] == "2024-01-20T00:00:00+00:00"

    rules = "--set prob_long=0.5 --set prob_short=0.5"
    tested = hissbt(f"backtest hiss --bars SPX.csv --model bundle {rules} --until 2024-01-22 --json")
    assert (tested.code, tested.err) == (0, "")
    assert tested.json()["in_sample"] is False
    record = json.loads((folder / tested.json()["folder"] / "run.json").read_text())
    assert record["span"]["first_open"] == "2024-01-20T00:00:00+00:00"  # where the training ended
    assert record["bundle"]["sha256"] == bundle.sha256
    shown = hissbt(f"backtest hiss --bars SPX.csv --model bundle {rules} {SPAN}")
    assert "IN SAMPLE" in shown.out
    assert "buy and hold" in shown.out
    assert Path(shown.out.splitlines()[-1].removeprefix("report: ")).is_file()


def test_every_option_of_a_backtest_arrives(hissbt, folder):
    answer = hissbt(
        f"{HOLD} {SPAN} --cash 5000 --cost taker=0.002 --cost impact=0 --set fraction=0.5 --out here/and/there "
        "--timeframe 1h --stamp close --json"
    )
    (run,) = (folder / "here" / "and" / "there").glob("*/")
    assert answer.json()["folder"] == str(run.relative_to(folder))
    assert {file.name for file in run.iterdir()} == RUN_FILES
    assert re.fullmatch(r"\d{8}T\d{6}Z-buy-and-hold-SPX", run.name)
    record = json.loads((run / "run.json").read_text())
    assert record["cash"] == 5000
    assert (record["costs"]["taker"], record["costs"]["impact"]) == (0.002, 0)
    assert record["params"]["fraction"] == 0.5
    assert record["span"] == {
        "first_open": "2024-01-05T00:00:00+00:00",
        "last_close": "2024-01-08T00:00:00+00:00",
        "bars": 72,
        "fed_from": "2024-01-05T00:00:00+00:00",
    }
    assert record["source"]["first_open"] == "2023-12-31T23:00:00+00:00"  # what stood in the file is the close
    trades = pd.read_csv(run / "trades.csv")
    assert trades["size"][0] * trades["entry_price"][0] == pytest.approx(2500, rel=0.02)
    assert trades["fees"][0] == pytest.approx(0.002 * trades["size"][0] * trades["entry_price"][0])


def test_a_strategy_of_ones_own(hissbt, folder):
    answer = hissbt(f"backtest own.py:Own --bars SPX.csv {SOON} --set units=3 --json")
    run = folder / answer.json()["folder"]
    assert run.name.endswith("-Own-SPX")
    assert json.loads((run / "run.json").read_text())["strategy"] == f"{folder / 'own.py'}:Own"
    assert pd.read_csv(run / "trades.csv")["size"].tolist() == [3]


def test_a_walk_forward_is_one_run_of_several_models(hissbt, folder):
    small = SMALL.replace("--set", "--train")
    answer = hissbt(
        f"walkforward hiss --bars SPX.csv --from 2024-01-20 --until 2024-02-05 --retrain 8d --rolling 300 {small} "
        "--set prob_long=0.5 --set prob_short=0.5 --workers 1 --json"
    )
    assert answer.code == 0, answer.err
    run = folder / answer.json()["folder"]
    assert answer.json()["in_sample"] is False
    assert {path.name for path in run.iterdir()} == RUN_FILES | {"relay", "walkforward.json"}
    assert len(json.loads((run / "relay" / "relay.json").read_text())["parts"]) == 2
    assert json.loads((run / "walkforward.json").read_text())["train_bars"] == 300


def test_a_sweep_ranks_every_combination(hissbt, folder):
    line = f"sweep buy_and_hold --bars SPX.csv {SPAN} --grid fraction=0.5,1 --workers 1"
    answer = hissbt(f"{line} --json")
    assert answer.code == 0, answer.err
    assert [each["params"] for each in answer.json()["table"]] in (
        [{"fraction": a}, {"fraction": b}] for a, b in ((0.5, 1), (1, 0.5))
    )
    assert "2 backtests from 2024-01-05" in hissbt(line).out


@pytest.mark.parametrize(
    "verb", ["demo", "train", "backtest", "scenarios", "compare", "walkforward", "sweep", "analyze"]
)
def test_help_explains_every_option(hissbt, verb):
    assert f"  {verb} " in hissbt("").out
    answer = hissbt(f"{verb} --help")
    assert answer.code == 0
    options = re.findall(r"^  (--\S+)(?: \S+)?(.*)$", answer.out, flags=re.MULTILINE)
    assert {name for name, _ in options} >= {"--out", "--json", "--help"}
    assert "<" not in answer.out.partition("Options:")[2]  # no types where a word says more
    assert re.search(r"^  --json {2,}Print", answer.out, flags=re.MULTILINE)  # a switch takes no value


def python(*arguments: str | Path, folder: Path) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, *arguments], cwd=folder, capture_output=True, text=True, timeout=120)


def test_help_and_version_import_nothing_heavy(tmp_path):
    code = """
import sys
from hissbt.cli import main
for line in [], ["--help"], ["--version"], ["demo", "--help"], ["train", "--help"], ["backtest", "--help"]:
    try:
        main(line)
    except SystemExit as end:
        assert not end.code
print({"torch", "lightning", "backtrader", "pandas", "numpy", "quantstats", "matplotlib", "statsmodels"}
      & set(sys.modules))
"""
    assert python("-c", code, folder=tmp_path).stdout.endswith("\nset()\n")


def test_a_backtest_without_a_model_needs_no_torch(folder):
    code = f"""
import sys
from hissbt.cli import main
try:
    main({f"{HOLD} {SOON}".split()!r})
except SystemExit as end:
    assert not end.code
print({{"torch", "lightning", "arch", "ccxt"}} & set(sys.modules))
"""
    assert python("-c", code, folder=folder).stdout.endswith("\nset()\n")


def test_a_strategy_file_runs_as_a_script(folder):
    script = Path(__file__).parents[1] / "strategies" / "hiss.py"
    answer = python(
        script,
        *shlex.split(f"--bars SPX.csv --model model {SPAN} --set prob_long=0.5 --set prob_short=0.5 --json"),
        folder=folder,
    )
    assert (answer.returncode, answer.stderr) == (0, "")
    assert json.loads(answer.stdout)["trading"]["trades"] > 0


def test_the_module_answers_as_the_command_does(folder):
    answer = python("-m", "hissbt", "backtest", "buy_and_hold", "--bars", "empty.csv", folder=folder)
    assert (answer.returncode, answer.stdout) == (2, "")
    assert answer.stderr == "hissbt: empty.csv is empty: fetch it again\n"


@pytest.mark.skipif(sys.platform == "win32", reason="pipes end otherwise there")
def test_a_reader_that_goes_away_ends_it_quietly():
    reader, writer = os.pipe()
    os.close(reader)
    answer = subprocess.run(
        [sys.executable, "-m", "hissbt", "--version"],
        stdout=writer,
        stderr=subprocess.PIPE,
        env={name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"},
    )
    os.close(writer)
    assert (answer.returncode, answer.stderr) == (1, b"")
