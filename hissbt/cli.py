"""The ``hissbt`` command. Each verb calls one function that a script could call; heavy imports wait for it."""

import inspect
import json
import os
import sys
import traceback
from pathlib import Path
from typing import Annotated, Any

import typer

from hissbt.errors import ConfigError, HissbtError
from hissbt.version import __version__

app = typer.Typer(
    name="hissbt",
    add_completion=False,
    pretty_exceptions_enable=False,
    rich_markup_mode=None,  # plain text: in typer's panels every switch would look as if it took a value
)

# What typer raises for a line that it cannot read; only this child of it has a public name.
_UsageError = typer.BadParameter.__base__
_COST_EXAMPLE = ("--cost", "taker=0.0004")
_INTERRUPTED = 130  # exit code by which typer tells of Ctrl-C

BarsOption = Annotated[
    str,
    typer.Option(
        "--bars",
        metavar="BARS",
        help="sp500 (comes with hissbt); a .csv, .csv.gz or .parquet file with a time column and the columns "
        "open, high, low, close, volume; or a name: bybit:BTC/USDT:USDT:1h (from the store, downloaded if nothing "
        "is there), yahoo:SPY:1d",
    ),
]
StrategyArgument = Annotated[
    str,
    typer.Argument(
        metavar="STRATEGY", help="buy_and_hold, hiss, switching, hvae, or your own: path/to/file.py:ClassName"
    ),
]
CostsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--cost",
        metavar="KEY=VALUE",
        help="One cost or term, as taker=0.0004, half_spread=0.0001, impact=1, leverage=3, volume_limit=0.1 "
        "or latency_bars=1; may be repeated. The market's fees are the default; a wrong key prints all",
    ),
]
FundingOption = Annotated[
    str | None,
    typer.Option(
        metavar="FUNDING", help="A CSV or Parquet file of timestamp,rate, or a name as bybit:BTC/USDT:USDT"
    ),
]
ParamsOption = Annotated[
    list[str] | None,
    typer.Option(
        "--set",
        metavar="KEY=VALUE",
        help="One parameter of the strategy, as prob_long=0.52; may be repeated. The keys are listed under "
        "params in its file; a wrong key prints the right ones",
    ),
]
TimeframeOption = Annotated[
    str | None,
    typer.Option(metavar="LENGTH", help="Length of a bar, such as 5m, 1h or 1d; read from the times if left out"),
]
StampOption = Annotated[
    str, typer.Option(metavar="open|close", help="Whether the times in a file are those of a bar's open or close")
]
ConfigOption = Annotated[
    str | None,
    typer.Option(
        "--config",
        metavar="NAME|FILE",
        help="Settings of the training: hours, days or volatility, or a TOML file",
    ),
]
ModelOption = Annotated[
    Path | None,
    typer.Option(metavar="FOLDER", help="A bundle that hissbt train wrote, if the strategy uses one"),
]
SinceOption = Annotated[
    str | None,
    typer.Option(
        "--from", metavar="DATE", help="Trade the bars from this time on (UTC); after the training if left out"
    ),
]
UntilOption = Annotated[str | None, typer.Option(metavar="DATE", help="Trade no bar from this time on (UTC)")]
CashOption = Annotated[float, typer.Option(metavar="AMOUNT", help="Money to start with")]
WorkersOption = Annotated[int, typer.Option(metavar="COUNT", min=1, help="Processes that work side by side")]
RunsOption = Annotated[
    Path, typer.Option("--out", metavar="FOLDER", help="Where the new folder with the results is made")
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print one JSON object instead of a table")]


@app.callback(invoke_without_command=True)
def _hissbt(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version and exit")] = False,
    # Listed for its help only: main() has taken it off the line, wherever it stood.
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error")] = False,
) -> None:
    """Trained sequence models as Backtrader indicators, and honest backtests of them."""
    if version:
        typer.echo(f"hissbt {__version__}")
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help())


@app.command()
def demo(
    leaky: Annotated[
        bool,
        typer.Option(
            "--leaky", help="Instead: a leak that looks like skill, its causal twin, what the audit says"
        ),
    ] = False,
    million: Annotated[
        bool,
        typer.Option("--million", help="Instead: the best of 1,000 random models, on the index and on noise"),
    ] = False,
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a model on data that comes along, and backtest it.

    A small HiSS network learns from the S&P 500 of 1999 to 2012 and trades 2013 to 2018, which it has not seen.
    Takes less than a minute; the page with the results is tearsheet.html in the folder that is printed.
    """
    if leaky and million:
        raise ConfigError("--leaky and --million are two demonstrations: ask for one at a time")
    if leaky or million:
        _demonstrate(leaky, out, as_json)
        return
    from hissbt.console import show_run
    from hissbt.demo import RULES, TRAIN_UNTIL, run_demo

    run = run_demo(out)
    if not as_json:
        rules = ", ".join(f"{name} {value}" for name, value in RULES.items())
        print(f"HiSS trained on the S&P 500 before {TRAIN_UNTIL}, traded after it with {rules}")
    show_run(run, as_json)


def _demonstrate(leaky: bool, out: Path, as_json: bool) -> None:
    from hissbt.console import show_leaky, show_million, work_progress
    from hissbt.feeds import load_bars
    from hissbt.research.demonstrations.leaky import demonstrate_leak
    from hissbt.research.demonstrations.million import demonstrate_million

    run, show = (demonstrate_leak, show_leaky) if leaky else (demonstrate_million, show_million)
    bars = load_bars("sp500")
    with work_progress(as_json) as progress:
        folder, results = run(bars, out=out, progress=progress)
    show(folder, results, as_json)


@app.command()
def train(
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="Kind of network, such as hiss; a wrong name prints all")
    ],
    bars: BarsOption,
    out: Annotated[Path, typer.Option(metavar="FOLDER", help="The bundle: a folder with the trained model")],
    train_until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Learn from the bars before this time (UTC); else from all"),
    ] = None,
    config: ConfigOption = None,
    settings: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help="One setting, as horizon=24 or network.d_model=32; may be repeated. The keys are the fields of "
            "TrainingConfig in hissbt/training/config.py, and after network. those of the network's own config "
            "in hissbt/models, such as HiSSConfig; a wrong key prints the right ones",
        ),
    ] = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    resume: Annotated[bool, typer.Option("--resume", help="Continue after an interruption")] = False,
    as_json: JsonOption = False,
) -> None:
    """Train a network on past bars and write it to a bundle.

    Example: hissbt train hiss --bars BTCUSDT_1h.csv.gz --train-until 2024-01-01 --out models/btc
    """
    from hissbt.console import show_bundle
    from hissbt.feeds import load_bars
    from hissbt.training import train as fit

    chosen = _training_settings(config, settings)
    loaded = load_bars(bars, timeframe=timeframe, stamp=stamp)
    bundle = fit(loaded, out, kind=model, until=train_until, settings=chosen, resume=resume)
    show_bundle(bundle, out, as_json)


@app.command()
def backtest(
    strategy: StrategyArgument,
    bars: BarsOption,
    model: ModelOption = None,
    since: SinceOption = None,
    until: UntilOption = None,
    cash: CashOption = 100_000.0,
    costs: CostsOption = None,
    funding: FundingOption = None,
    settings: ParamsOption = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Run a strategy over bars and write its results.

    Example: hissbt backtest hiss --bars BTCUSDT_1h.csv.gz --model models/btc --from 2024-01-01
    """
    from hissbt.backtest import run_backtest
    from hissbt.console import show_run
    from hissbt.feeds import load_bars, load_funding
    from hissbt.plugins import load_strategy

    run = run_backtest(
        load_bars(bars, timeframe=timeframe, stamp=stamp),
        load_strategy(strategy),
        model=model,
        params=_parse_settings(settings),
        since=since,
        until=until,
        cash=cash,
        costs=_parse_settings(costs, *_COST_EXAMPLE),
        funding=load_funding(funding) if funding else None,
        out=out,
        name=None if ":" in strategy else strategy,
    )
    show_run(run, as_json)


@app.command()
def fetch(
    exchange: Annotated[str, typer.Argument(metavar="EXCHANGE", help="bybit, or any other name that ccxt knows")],
    symbols: Annotated[
        str, typer.Argument(metavar="SYMBOL[,SYMBOL...]", help="As ccxt writes them, such as BTC/USDT:USDT")
    ],
    timeframe: Annotated[str, typer.Argument(metavar="TIMEFRAME", help="Length of a bar, such as 5m, 1h or 1d")],
    since: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="Open of the first bar (UTC); the beginning of history if left out"),
    ] = None,
    until: Annotated[
        str | None,
        typer.Option(metavar="DATE", help="No bar that opens at this time (UTC) or later; all that have closed"),
    ] = None,
    kinds: Annotated[
        str, typer.Option("--kind", metavar="KIND[,KIND...]", help="Of trade, mark, index, premium, funding")
    ] = "trade",
    store: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Where bars are kept; else HISSBT_STORE, else the user's data folder"),
    ] = None,
    endpoint: Annotated[
        str | None,
        typer.Option(
            metavar="URL",
            help="Another server in the exchange's place, such as a replay; else HISSBT_<EXCHANGE>_ENDPOINT",
        ),
    ] = None,
    testnet: Annotated[bool, typer.Option("--testnet", help="Ask the exchange's testnet")] = False,
    allow_gaps: Annotated[
        bool, typer.Option("--allow-gaps", help="Accept bars that the exchange does not have, and record them")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Download history from an exchange into the store, where bybit:SYMBOL:TIMEFRAME names it.

    Asks only for what the store lacks, and fails if bars stay missing. Needs no key, and reads none.
    Example: hissbt fetch bybit BTC/USDT:USDT 1h --since 2020-03-25T10:00
    """
    from hissbt.console import fetch_progress, show_fetched
    from hissbt.feeds.fetch import fetch as download
    from hissbt.feeds.store import BarStore

    bar_store = BarStore(store)
    with fetch_progress(as_json) as progress:
        fetched = download(
            exchange,
            _parse_list(symbols),
            timeframe,
            since=since,
            until=until,
            kinds=_parse_list(kinds),
            store=bar_store,
            endpoint=endpoint,
            testnet=testnet,
            allow_gaps=allow_gaps,
            progress=progress,
        )
    show_fetched(fetched, bar_store.root, as_json)


@app.command()
def compare(
    preset: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="What is compared: rivals, volatility, volatility-minutes, three-scales, switching-paper "
            "(arXiv 2407.15236) or hvae",
        ),
    ] = "rivals",
    bars: Annotated[
        str | None,
        typer.Option("--bars", metavar="BARS", help="As for hissbt train; three-scales makes its own series"),
    ] = None,
    also: Annotated[
        list[str] | None,
        typer.Option(
            "--also", metavar="BARS", help="Bars of another symbol to learn from, for volatility; may be repeated"
        ),
    ] = None,
    seeds: Annotated[
        int | None,
        typer.Option(metavar="COUNT", min=1, help="Times each network is trained; the preset's if left out"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Tiny networks, few seeds: what the page looks like, in minutes")
    ] = False,
    workers: WorkersOption = 2,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Compare networks with their rivals, or with what was published of them, on your bars.

    rivals trains everybody, from buy-and-hold to a Transformer, on the same folds. volatility forecasts that of
    the next day, volatility-minutes from bars of five minutes. three-scales sets HiSS against flat networks on a
    made-up system. switching-paper sets the tables of that article beside yours; it needs daily bars of Bitcoin
    from before 2014-11-27 to 2024-07-05. hvae sets a hierarchical VAE beside a flat one, GARCH and Markov
    switching. Each takes less than an hour on two cores. Under each table a sentence says what it shows.
    Example: hissbt compare --bars BTCUSDT_1h.csv.gz
    """
    from hissbt.console import show_comparison, work_progress
    from hissbt.feeds import load_bars
    from hissbt.research.compare import compare as run_comparison

    loaded, *others = [
        None if each is None else load_bars(each, timeframe=timeframe, stamp=stamp)
        for each in (bars, *(also or ()))
    ]
    with work_progress(as_json) as progress:
        folder, results = run_comparison(
            loaded, preset, also=others, seeds=seeds, quick=quick, out=out, workers=workers, progress=progress
        )
    show_comparison(folder, results, as_json)


@app.command()
def walkforward(
    strategy: StrategyArgument,
    bars: BarsOption,
    since: Annotated[str, typer.Option("--from", metavar="DATE", help="Trade the bars from this time on (UTC)")],
    until: UntilOption = None,
    retrain: Annotated[
        str, typer.Option(metavar="LENGTH", help="How long a model trades before the next: 90d, or bars as 2160")
    ] = "90d",
    train_bars: Annotated[
        str | None,
        typer.Option(
            "--rolling", metavar="LENGTH", help="Train on the newest so long, as 730d; on all before if left out"
        ),
    ] = None,
    embargo: Annotated[
        int | None,
        typer.Option(
            metavar="BARS", min=0, help="Bars left out before each model's turn; as long as a label if left out"
        ),
    ] = None,
    warm_start: Annotated[
        bool, typer.Option("--warm-start", help="Begin each training with the weights of the model before")
    ] = False,
    kind: Annotated[
        str, typer.Option("--kind", metavar="MODEL", help="Kind of network, as for hissbt train")
    ] = "hiss",
    config: ConfigOption = None,
    train_settings: Annotated[
        list[str] | None,
        typer.Option(
            "--train", metavar="KEY=VALUE", help="One setting of the training, as horizon=24; may be repeated"
        ),
    ] = None,
    settings: ParamsOption = None,
    cash: CashOption = 100_000.0,
    costs: CostsOption = None,
    funding: FundingOption = None,
    seed: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Of the trainings and the backtest")] = 0,
    workers: WorkersOption = 2,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Train a model anew as time goes on, and trade each bar by one that has not seen it: one backtest of all.

    Models are kept in the folder of the results: the same command goes on after an interruption. All of them
    together are the folder relay in the run, which works wherever a bundle does.
    Example: hissbt walkforward hiss --bars BTCUSDT_1h.csv.gz --from 2023-01-01 --retrain 120d --train horizon=24
    """
    from hissbt.console import show_run, work_progress
    from hissbt.feeds import load_bars, load_funding
    from hissbt.plugins import load_strategy
    from hissbt.research.walkforward import walk_forward

    loaded, chosen = load_bars(bars, timeframe=timeframe, stamp=stamp), load_strategy(strategy)
    with work_progress(as_json) as progress:
        run = walk_forward(
            loaded,
            chosen,
            since=since,
            until=until,
            retrain_every=_parse_length(retrain),
            train_bars=None if train_bars is None else _parse_length(train_bars),
            embargo=embargo,
            warm_start=warm_start,
            kind=kind,
            settings=_training_settings(config, train_settings, "--train"),
            params=_parse_settings(settings, example="prob_long=0.52"),
            cash=cash,
            costs=_parse_settings(costs, *_COST_EXAMPLE),
            funding=load_funding(funding) if funding else None,
            out=out,
            seed=seed,
            name=None if ":" in strategy else strategy,
            workers=workers,
            progress=progress,
        )
    show_run(run, as_json)


@app.command()
def sweep(
    strategy: StrategyArgument,
    bars: BarsOption,
    grid: Annotated[
        list[str],
        typer.Option(
            "--grid", metavar="KEY=VALUE,VALUE...", help="Values of a parameter, as prob_long=0.5,0.52; repeat it"
        ),
    ],
    model: ModelOption = None,
    seeds: Annotated[
        int, typer.Option(metavar="COUNT", min=1, help="Runs of each combination, seeds from 0 on")
    ] = 1,
    since: SinceOption = None,
    until: UntilOption = None,
    settings: ParamsOption = None,
    cash: CashOption = 100_000.0,
    costs: CostsOption = None,
    funding: FundingOption = None,
    backend: Annotated[
        str, typer.Option(metavar="NAME", help="Who works: local processes, a dask cluster, or ray")
    ] = "local",
    scheduler: Annotated[
        str | None, typer.Option(metavar="ADDRESS", help="Of the cluster, as tcp://10.0.0.1:8786")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(metavar="COUNT", min=1, help="Local processes; one a core if left out")
    ] = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Backtest every combination of parameters, and say how likely it is that the best of them was luck.

    What has ended is kept at once: the same command goes on after an interruption, and killed workers cost only
    what they were at. Every backtest counts as a trial.
    Example: hissbt sweep hiss --bars BTCUSDT_1h.csv.gz --model models/btc --grid prob_long=0.5,0.52,0.54
    """
    from hissbt.console import show_sweep, work_progress
    from hissbt.feeds import load_bars, load_funding
    from hissbt.plugins import load_strategy
    from hissbt.research.sweep import sweep as run_sweep

    loaded, chosen = load_bars(bars, timeframe=timeframe, stamp=stamp), load_strategy(strategy)
    with work_progress(as_json) as progress:
        folder, results = run_sweep(
            loaded,
            chosen,
            grid=_parse_grid(grid),
            seeds=range(seeds),
            model=model,
            params=_parse_settings(settings, example="prob_long=0.52"),
            since=since,
            until=until,
            cash=cash,
            costs=_parse_settings(costs, *_COST_EXAMPLE),
            funding=load_funding(funding) if funding else None,
            backend=backend,
            scheduler=scheduler,
            workers=workers,
            out=out,
            name=None if ":" in strategy else strategy,
            progress=progress,
        )
    show_sweep(folder, results, as_json)


@app.command()
def analyze(
    model: Annotated[Path, typer.Argument(metavar="BUNDLE", help="A bundle of kind hiss or hvae")],
    bars: BarsOption,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Show what each level of a trained hierarchy knows, forecasts and remembers.

    The bars are to reach well beyond those that it was trained on: what levels forecast is scored, and for a
    hierarchical VAE anomalies are counted, on what it has not seen.
    Example: hissbt analyze models/btc --bars BTCUSDT_1h.csv.gz
    """
    from hissbt.console import show_analysis, work_progress
    from hissbt.feeds import load_bars
    from hissbt.research.analyze import analyze as run_analysis

    loaded = load_bars(bars, timeframe=timeframe, stamp=stamp)
    with work_progress(as_json) as progress:
        folder, results = run_analysis(loaded, model, out=out, progress=progress)
    show_analysis(folder, results, as_json)


@app.command()
def scenarios(
    strategy: StrategyArgument,
    bars: BarsOption,
    model: Annotated[
        Path | None,
        typer.Option(
            metavar="FOLDER", help="The bundle of an hvae, which makes scenarios; only its rivals without"
        ),
    ] = None,
    fix: Annotated[
        str | None,
        typer.Option(
            metavar="LEVEL[,LEVEL...]",
            help="Latents that are those of the anchor, as z3 or z3,z2, others are drawn; else the top one",
        ),
    ] = None,
    anchor: Annotated[
        str | None,
        typer.Option(
            metavar="ANCHOR",
            help="A month or date as 2022-06, a crisis (covid, luna, 3ac, ftx), or a regime (bull, bear, "
            "sideways, cluster:0)",
        ),
    ] = None,
    since: Annotated[
        str | None,
        typer.Option(
            "--from",
            metavar="DATE",
            help="Begin the scenarios at this time (UTC); at the anchor's, or after the model's training, if left "
            "out",
        ),
    ] = None,
    generators: Annotated[
        str | None,
        typer.Option(metavar="NAME[,NAME...]", help="Of hvae, bootstrap, garch, markov, null; all if left out"),
    ] = None,
    count: Annotated[int, typer.Option("-n", metavar="COUNT", help="Scenarios of each generator")] = 500,
    length: Annotated[int, typer.Option(metavar="BARS", help="Bars of each scenario")] = 720,
    seed: Annotated[int, typer.Option(metavar="NUMBER", min=0, help="The same seed makes the same scenarios")] = 0,
    risk: Annotated[
        int,
        typer.Option(
            metavar="COUNT",
            min=0,
            help="Also run so many scenarios with each level of the model moved up and down: risk by level",
        ),
    ] = 0,
    costs: CostsOption = None,
    funding: FundingOption = None,
    settings: ParamsOption = None,
    workers: WorkersOption = 2,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    out: RunsOption = Path("runs"),
    as_json: JsonOption = False,
) -> None:
    """Run a strategy through made-up months, and compare with the one that was.

    Each scenario goes on from the same real bars, with the costs and limits of a backtest. The page shows what
    return, drawdown and liquidation to reckon with, and whether the strategy earns where nobody can.
    Example: hissbt scenarios hiss --bars BTCUSDT_1h.csv.gz --model models/hvae --fix z3 --anchor 2022-06 --set
    model=models/btc
    """
    from hissbt.console import show_scenarios, work_progress
    from hissbt.feeds import load_bars, load_funding
    from hissbt.plugins import load_strategy
    from hissbt.research.scenarios import scenarios as run_scenarios

    loaded, chosen = load_bars(bars, timeframe=timeframe, stamp=stamp), load_strategy(strategy)
    with work_progress(as_json) as progress:
        folder, results = run_scenarios(
            loaded,
            chosen,
            model=model,
            fix=None if fix is None else _parse_list(fix),
            anchor=anchor,
            since=since,
            generators=None if generators is None else _parse_list(generators),
            n=count,
            length=length,
            seed=seed,
            risk=risk,
            params=_parse_settings(settings),
            costs=_parse_settings(costs, *_COST_EXAMPLE),
            funding=load_funding(funding) if funding else None,
            workers=workers,
            out=out,
            name=None if ":" in strategy else strategy,
            progress=progress,
        )
    show_scenarios(folder, results, as_json)


@app.command()
def audit(
    target: Annotated[
        str,
        typer.Argument(
            metavar="TARGET",
            help="A strategy or indicator: a short name such as hiss, switching, forecast or latent (a wrong one "
            "prints all), or your own: path/to/file.py:ClassName",
        ),
    ],
    bars: BarsOption,
    model: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="A bundle that hissbt train wrote, if the target uses one"),
    ] = None,
    settings: ParamsOption = None,
    cuts: Annotated[
        int | None,
        typer.Option(
            metavar="COUNT",
            min=1,
            help="Bars after which the future is altered; 256, or what a minute allows, if left out",
        ),
    ] = None,
    timeframe: TimeframeOption = None,
    stamp: StampOption = "open",
    as_json: JsonOption = False,
) -> None:
    """Find out whether a strategy or indicator looks ahead; exit code 1 if it does.

    It runs over the same bars with other futures, and none: what it said before must not change. It must say the
    same bar by bar, too, in every run, and after a restart.
    Example: hissbt audit my_indicators.py:Trend --bars BTCUSDT_1h.csv.gz --set period=20
    """
    from hissbt.console import show_audit, work_progress
    from hissbt.feeds import load_bars
    from hissbt.plugins import load_target
    from hissbt.research.audit import audit as run_audit

    loaded, chosen = load_bars(bars, timeframe=timeframe, stamp=stamp), load_target(target)
    with work_progress(as_json) as progress:
        report = run_audit(
            chosen, loaded, model=model, params=_parse_settings(settings), cuts=cuts, progress=progress
        )
    show_audit(report, as_json)
    if not report.passed:
        raise typer.Exit(1)


@app.command()
def bench(
    bars: Annotated[
        str | None,
        typer.Option(metavar="BARS", help="Bars for the backtests, as in hissbt backtest; else made up"),
    ] = None,
    quick: Annotated[
        bool, typer.Option("--quick", help="Less of everything: a minute, where the whole takes ten")
    ] = False,
    as_json: JsonOption = False,
) -> None:
    """Measure speed on this machine, each figure beside what it is compared with.

    Steps of each network beside torch, ONNX Runtime and numpy; backtests beside stock Backtrader; cost over the
    length of a run; latency of a decision; training; start-up. Needs no data. Leave the machine alone meanwhile.
    """
    # Before numpy comes in: BLAS reads it once. The comparison is on one thread throughout.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from hissbt.bench import FULL, QUICK, run_bench
    from hissbt.bench.table import progress_bar, show_bench
    from hissbt.feeds import load_bars

    with progress_bar() as progress:
        results = run_bench(QUICK if quick else FULL, load_bars(bars) if bars else None, progress)
    if as_json:
        print(json.dumps(results), flush=True)
    else:
        show_bench(results)


def _parse_list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


def _parse_settings(pairs: list[str] | None, option: str = "--set", example: str = "horizon=24") -> dict[str, Any]:
    """Turn ``key=value`` texts into a dict; a value is JSON where it can be, else text."""
    settings = {}
    for pair in pairs or []:
        key, equals, text = pair.partition("=")
        if not equals or not key.strip():
            raise ConfigError(f"{option} {pair} is not of the form KEY=VALUE: write it as in {option} {example}")
        settings[key.strip()] = _parse_value(text)
    return settings


def _parse_value(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return text


def _training_settings(config: str | None, pairs: list[str] | None, option: str = "--set") -> dict[str, Any]:
    """Return the settings of a file or preset, with those typed put over them."""
    from hissbt.training.config import read_settings

    chosen = read_settings(config) if config else {}
    for key, value in _parse_settings(pairs, option).items():
        _set_nested(chosen, key, value)
    return chosen


def _parse_length(text: str) -> int | str:
    return int(text) if text.isdecimal() else text


def _parse_grid(pairs: list[str]) -> dict[str, list]:
    """Turn ``key=value,value`` texts into values by key; a value is JSON where it can be, else text."""
    grid = {}
    for pair in pairs:
        key, _, text = pair.partition("=")
        values = _parse_list(text)
        if not key.strip() or not values:
            raise ConfigError(
                f"--grid {pair} is not of the form KEY=VALUE,VALUE: write it as in --grid prob_long=0.5,0.52"
            )
        grid[key.strip()] = [_parse_value(value) for value in values]
    return grid


def _set_nested(settings: dict[str, Any], key: str, value: Any) -> None:
    *path, last = key.split(".")
    for part in path:
        settings = settings.setdefault(part, {})
        if not isinstance(settings, dict):
            raise ConfigError(f"--set {key} is not possible, {part} was given one value: leave either out")
    settings[last] = value


def run_strategy_script(strategy: type) -> None:
    """Backtest ``strategy`` with the options of ``hissbt backtest``, as its file does when run as a script."""
    main(["backtest", f"{inspect.getfile(strategy)}:{strategy.__name__}", *sys.argv[1:]])


def main(arguments: list[str] | None = None) -> None:
    """Run the command and exit: 0, or 2 for bad input and 1 for failure, each with one sentence on stderr.

    ``--debug``, wherever it stands, adds the traceback.
    """
    line = sys.argv[1:] if arguments is None else arguments
    try:
        code = app([word for word in line if word != "--debug"], prog_name="hissbt", standalone_mode=False)
    except Exception as error:  # noqa: BLE001
        # Whatever it is, the user gets a sentence first, and the rest on demand.
        if "--debug" in line:
            traceback.print_exc()
        sentence, code = _explain(error)
        print("hissbt:", " ".join(sentence.split()), file=sys.stderr)
    if code == _INTERRUPTED:
        print("hissbt: interrupted", file=sys.stderr)
    sys.exit(code)


def _explain(error: Exception) -> tuple[str, int]:
    """Return one sentence about ``error``, and the exit code."""
    if isinstance(error, HissbtError):
        return str(error), error.exit_code
    if isinstance(error, _UsageError):
        message = error.format_message().rstrip(".?")
        command = error.ctx.command_path if error.ctx else "hissbt"
        return f"{message[:1].lower()}{message[1:]}; see {command} --help", 2
    if isinstance(error, OSError) and error.strerror:
        file = error.filename or "a file"
        return f"cannot read or write {file} ({error.strerror}): look at the disk and its permissions", 1
    return f"{type(error).__name__} at {_place(error)} ({error}): add --debug for the traceback", 1


def _place(error: Exception) -> str:
    """Return the file and line nearest to ``error`` outside of installed packages: the user's, mostly."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if not frame.filename.startswith((sys.prefix, sys.base_prefix))]
    frame = (own or frames)[-1]
    return f"{frame.filename}:{frame.lineno}"


if __name__ == "__main__":
    main()
