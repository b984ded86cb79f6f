"""What a user writes first works as printed, and importing the package costs nothing."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
from bundles import random_bundle

import hissbt

README = Path(__file__).parents[1] / "README.md"


def run_python(code: str, folder: Path) -> str:
    return subprocess.run(
        [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, check=True
    ).stdout


def test_the_python_of_the_readme_runs_as_printed(hourly_bars, tmp_path):
    (code,) = re.findall(r"```python\n(.*?)```", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    frame = hourly_bars.frame.tz_localize(None)
    frame.index = (frame.index - hourly_bars.timeframe).rename("timestamp")
    frame.to_csv(tmp_path / "BTCUSDT_1h.csv.gz")
    random_bundle(hourly_bars[:300]).save(tmp_path / "models" / "btc-hiss")
    trades = run_python(code + "print(len(strategy.analyzers.ledger.trades))", tmp_path)
    assert int(trades) > 0
    assert "</html>" in (tmp_path / "tearsheet.html").read_text(encoding="utf-8")


@pytest.mark.parametrize("name", sorted(set(hissbt.__all__) - {"__version__"}))
def test_every_public_name_can_be_imported(name):
    assert getattr(hissbt, name).__name__ == name


def test_an_unknown_name_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'Oracle'"):
        _ = hissbt.Oracle


def test_importing_the_package_imports_nothing_heavy(tmp_path):
    heavy = "torch", "backtrader", "pandas", "numpy", "lightning"
    assert run_python(f"import sys, hissbt; print(set({heavy}) & set(sys.modules))", tmp_path) == "set()\n"


def test_a_backtest_of_a_finished_bundle_imports_no_torch(hourly_bars, tmp_path):
    hourly_bars[:200].frame.to_csv(tmp_path / "bars.csv")
    random_bundle(hourly_bars[:100]).save(tmp_path / "bundle")
    code = (
        "import sys; from hissbt.cli import main\n"
        "try: main(['backtest', 'hiss', '--bars', 'bars.csv', '--model', 'bundle', '--json'])\n"
        "except SystemExit as end: assert not end.code\n"
        "assert 'hissbt.stream' in sys.modules\n"
        "print(sorted({'torch', 'lightning', 'arch'} & set(sys.modules)))"
    )
    assert run_python(code, tmp_path).endswith("}\n[]\n")
