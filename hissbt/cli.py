"""The ``hissbt`` command. Each verb calls one function that a script could call; heavy imports wait for it."""

import inspect
import json
import os
import sys
from pathlib import Path
from typing import Annotated, Any

import typer

from hissbt.errors import ConfigError, HissbtError
from hissbt.version import __version__

app = typer.Typer(
    name="hissbt",
    help="Trained sequence models as Backtrader indicators, and honest backtests of them.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

BarsOption = Annotated[str, typer.Option("--bars", help="sp500, or a path to CSV (also .gz) or Parquet")]
TimeframeOption = Annotated[
    str | None, typer.Option(help="Length of a bar, such as 1h; found from the stamps if absent")
]
StampOption = Annotated[str, typer.Option(help="What the stamps of a file mean: open or close")]
SetOption = Annotated[list[str] | None, typer.Option("--set", help="key=value, may be repeated")]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table")]
RunsOption = Annotated[Path, typer.Option("--out", help="Folder that receives the run folder")]


def _print_version(wanted: bool) -> None:
    if wanted:
        print(f"hissbt {__version__}")
        raise typer.Exit


@app.callback()
def _global_options(
    version: Annotated[bool, typer.Option("--version", callback=_print_version, is_eager=True)] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks")] = False,
) -> None:
    pass  # main() reads --debug, because it also has to catch what happens before a verb runs


@app.command()
def demo(
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a small HiSS on the embedded S&P 500 series, backtest it out of sample, write a tearsheet."""
    from hissbt.console import show_run
    from hissbt.demo import RULES, TRAIN_UNTIL, run_demo

    run = run_demo(out, progress=not as_json)
    if not as_json:
        rules = ", ".join(f"{name} {value}" for name, value in RULES.items())
        print(f"HiSS trained on the S&P 500 before {TRAIN_UNTIL}, traded after it with {rules}")
    show_run(run, as_json)


@app.command()
def train(
    model: Annotated[str, typer.Argument(help="Kind of network: hiss")],
    bars: BarsOption,
    out: Annotated[Path, typer.Option(help="Folder for the bundle")],
    train_until: Annotated[str | None, typer.Option(help="No bar from here on is looked at (UTC)")] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file with settings")] = None,
    settings: SetOption = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on the bars before --train-until and write a bundle."""
    from hissbt.console import show_bundle
    from hissbt.feeds import load_bars
    from hissbt.training import train as fit
    from hissbt.training.config import read_settings

    chosen = (read_settings(config) if config else {}) | {}
    for key, value in _parse_settings(settings).items():
        _set_nested(chosen, key, value)
    loaded = load_bars(bars, timeframe=timeframe, stamp=stamp)
    bundle = fit(loaded, out, kind=model, until=train_until, settings=chosen, resume=resume, progress=not as_json)
    show_bundle(bundle, out, as_json)


@app.command()
def backtest(
    strategy: Annotated[str, typer.Argument(help="Short name, or path/to/file.py:ClassName")],
    bars: BarsOption,
    model: Annotated[Path | None, typer.Option(help="Folder of a bundle")] = None,
    since: Annotated[
        str | None, typer.Option("--from", help="First bar that is traded, by its open (UTC)")
    ] = None,
    until: Annotated[str | None, typer.Option(help="No bar from here on is used (UTC)")] = None,
    cash: Annotated[float, typer.Option(help="Starting cash, quote currency")] = 100_000.0,
    commission: Annotated[
        float | None, typer.Option(help="Fraction of notional a fill; the market's if absent")
    ] = None,
    settings: SetOption = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Run a strategy over bars and write a run folder with its tearsheet."""
    from hissbt.backtest import run_backtest
    from hissbt.console import show_run
    from hissbt.feeds import load_bars
    from hissbt.plugins import load_strategy

    run = run_backtest(
        load_bars(bars, timeframe=timeframe, stamp=stamp),
        load_strategy(strategy),
        model=model,
        params=_parse_settings(settings),
        since=since,
        until=until,
        cash=cash,
        commission=commission,
        out=out,
        name=None if ":" in strategy else strategy,
    )
    show_run(run, as_json)


def _parse_settings(pairs: list[str] | None) -> dict[str, Any]:
    """Turn ``key=value`` texts into a dict; a value is JSON where it can be, else text."""
    settings = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key:
            raise ConfigError(f"--set {pair} is not of the form key=value")
        try:
            settings[key.strip()] = json.loads(text)
        except ValueError:
            settings[key.strip()] = text
    return settings


def _set_nested(settings: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"--set {key}: {part} is a single value, not a group")
    settings[last] = value


def run_strategy_script(strategy: type) -> None:
    """Backtest ``strategy`` with the options of ``hissbt backtest``, as its file does when run as a script."""
    main(["backtest", f"{inspect.getfile(strategy)}:{strategy.__name__}", *sys.argv[1:]])


def main(arguments: list[str] | None = None) -> None:
    """Run the command; exit 2 for bad input and 1 for failure, each with one sentence on stderr."""
    arguments = sys.argv[1:] if arguments is None else arguments
    try:
        app(arguments, standalone_mode=True)
    except HissbtError as error:
        if "--debug" in arguments:
            raise
        print(f"hissbt: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        # The reader of our output went away; nothing is left to say, also not at interpreter exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)


if __name__ == "__main__":
    main()
