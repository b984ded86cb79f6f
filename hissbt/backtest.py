"""The one function behind every backtest: bars and a strategy in, a run folder out."""

from __future__ import annotations

import hashlib
import math
import random
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import backtrader as bt
import numpy as np
import pandas as pd

from hissbt.atomic import file_in_the_way
from hissbt.bars import Bars, Time, parse_time
from hissbt.errors import BarsError, BundleError, ConfigError, StrategyError
from hissbt.feeds.bulk import BarsFeed
from hissbt.feeds.funding import Funding
from hissbt.loop import accelerate
from hissbt.market import Market
from hissbt.relay import Model, RelayBundle, described_parts, load_model, parts_of
from hissbt.reports.costs import cost_report
from hissbt.reports.ledger import Ledger
from hissbt.reports.metrics import (
    buy_and_hold,
    daily_outcome,
    forecast_metrics,
    significance,
    trading_metrics,
)
from hissbt.reports.page import ASSUMPTIONS, run_page
from hissbt.reports.run_folder import provenance, write_run_folder
from hissbt.reports.tearsheet import tearsheet
from hissbt.timeframe import format_timeframe
from hissbt.trading.clock import to_ms
from hissbt.trading.costs import Costs
from hissbt.trading.guards import Guard
from hissbt.trials import Outcome, Trial, Trials


@dataclass(frozen=True)
class Run:
    """A finished backtest."""

    folder: Path
    """Where its files are."""
    metrics: dict
    """What metrics.json holds: in_sample, trading, significance, costs, counts, guards, buy_and_hold, forecast;
    of a relay also walk_forward: one row a model that traded, in the order of their turns."""
    ledger: pd.DataFrame
    """One row a bar, see ``hissbt.reports.ledger.Ledger``."""
    trades: pd.DataFrame
    """One row a trade."""
    strategy: bt.Strategy
    """The strategy as it was at the end."""


@dataclass(frozen=True)
class Setup:
    """A strategy and everything that its runs need but the bars; other processes can be sent it."""

    strategy: type[bt.Strategy]
    params: dict
    """All that are not the strategy's defaults, the model among them."""
    bundle: Model | None
    """The model, loaded."""
    bundles: tuple[Model, ...]
    """All models of the strategy: that one, and those in its ``model_params``."""
    market: Market
    costs: Costs
    """With the market's own fees."""
    cash: float
    funding: Funding | None
    guards: tuple[Guard, ...]

    @classmethod
    def of(
        cls,
        bars: Bars,
        strategy: type[bt.Strategy],
        *,
        model: str | Path | Model | None = None,
        params: dict | None = None,
        cash: float = 100_000.0,
        costs: Costs | Mapping | None = None,
        funding: Funding | None = None,
        guards: Sequence[Guard] = (),
    ) -> Setup:
        """Check what a user gave, for runs over bars of the market and timeframe of ``bars``.

        Arguments and errors are those of ``run_backtest``.
        """
        costs = (costs if isinstance(costs, Costs) else Costs.of(costs or {})).on(bars.market)
        _check_cash(cash)
        params = dict(params or {})
        bundle = _load_bundle(params.pop("model", None) if model is None else model)
        further = {
            name: _load_bundle(params[name])
            for name in getattr(strategy, "model_params", ())
            if params.get(name) is not None
        }
        params |= further
        bundles = tuple(found for found in (bundle, *further.values()) if found is not None)
        params |= _given_params(strategy, bundle, bundles, bars, params)
        return cls(strategy, params, bundle, bundles, bars.market, costs, cash, funding, tuple(guards))

    @property
    def warmup(self) -> int:
        """Bars until the outputs of all models can be trusted; 0 without a model."""
        return max((bundle.warmup for bundle in self.bundles), default=0)

    @property
    def trained_until(self) -> pd.Timestamp | None:
        """The last close that any of the models was trained on; of a relay, that its first part was."""
        return max((parse_time(bundle.training_span["end"]) for bundle in self.bundles), default=None)

    def run(self, bars: Bars, since: pd.Timestamp, seed: int) -> bt.Strategy:
        """Run over all of ``bars`` and return the strategy as it was at the end; nothing is written.

        Its ``analyzers.ledger`` has the bars that close after ``since``. Python's and numpy's global random
        numbers are seeded with ``seed``.
        """
        random.seed(seed)
        np.random.seed(seed)
        cerebro = bt.Cerebro(stdstats=False)
        cerebro.adddata(BarsFeed(bars))
        cerebro.addstrategy(self.strategy, **self.params)
        cerebro.addanalyzer(Ledger, _name="ledger", since=since)
        cerebro.broker = self.costs.broker(self.market, cash=self.cash, funding=self.funding, guards=self.guards)
        accelerate(cerebro)
        return cerebro.run()[0]


def run_backtest(
    bars: Bars,
    strategy: type[bt.Strategy],
    *,
    model: str | Path | Model | None = None,
    params: dict | None = None,
    since: Time | None = None,
    until: Time | None = None,
    cash: float = 100_000.0,
    costs: Costs | Mapping | None = None,
    funding: Funding | None = None,
    guards: Sequence[Guard] = (),
    out: str | Path = "runs",
    seed: int = 0,
    name: str | None = None,
) -> Run:
    """Run ``strategy`` over the bars that open at or after ``since`` and close at or before ``until``.

    ``model`` becomes the strategy's param ``model``, and its warm-up bars before ``since`` are fed too (a strategy
    with further models names the params that hold them in its attribute ``model_params``): the first
    decision is made at the close of the bar before ``since`` and filled at the open of the first bar inside.
    Without ``since`` the run begins where the model's training span ends, or, where it does not end inside these
    bars, at the earliest bar for which there is a warm-up. ``costs`` (settings of
    ``hissbt.trading.costs.Costs``, its defaults where left out), ``funding`` and ``guards`` (which hold whatever
    the strategy does) are charged and enforced by a ``PerpBroker``. Python's and numpy's global random numbers are
    seeded with ``seed``. ``name`` is what the run folder calls the strategy.

    Everything is written to a new folder in ``out``. The metrics say ``in_sample: true`` if the run begins before
    the model's training span ends, and weigh the Sharpe ratio against all that was tried on bars of this symbol
    and timeframe, by the trial ledger in ``out`` (see ``hissbt.trials``), in which this run is entered too,
    whatever becomes of it. Money is in the quote currency, or in the base coin of an inverse contract.

    Raises BarsError for too few bars, or bars that the model was not made for; StrategyError for params that the
    strategy does not have; ConfigError for cash or costs that make no sense, for funding of which more than 1 %
    of the events are missing (unless ``costs`` allow it), or if ``out`` is a file; BundleError for the model.
    """
    if file := file_in_the_way(out):
        raise ConfigError(f"{file} is a file, where the run folder would be made: name another folder")
    setup = Setup.of(
        bars, strategy, model=model, params=params, cash=cash, costs=costs, funding=funding, guards=guards
    )
    fed, first_open = span_of(bars, since, until, setup)
    trials = Trials(out)
    with trials.trial("backtest", trial_config(setup, seed, fed, first_open), **trial_facts(setup, bars)) as trial:
        finished = setup.run(fed, first_open, seed)
        ledger = finished.analyzers.ledger
        trial.result |= daily_outcome(ledger.frame)
        in_sample = setup.trained_until is not None and first_open < setup.trained_until
        metrics = _metrics(finished, setup, in_sample) | {
            "significance": _significance(ledger, bars, trials, trial)
        }
        record = _record(finished, bars, setup, seed)
        notes = _notes(metrics, setup)
        benchmark = None if _is_inverse(bars.market) else fed
        folder = write_run_folder(
            out,
            name or strategy.__name__,
            bars.market.symbol,
            run=record
            | {"trial": trial.row and trial.row._asdict()},  # the page is the same when a run is repeated
            metrics=metrics,
            ledger=ledger.frame,
            trades=ledger.trades,
            fills=ledger.fills,
            orders=ledger.orders,
            pages={
                "tearsheet.html": lambda path: tearsheet(finished, path, benchmark=benchmark, notes=notes),
                "report.html": lambda path: run_page(
                    path,
                    run=record,
                    metrics=metrics,
                    ledger=ledger.frame,
                    trades=ledger.trades,
                    fills=ledger.fills,
                    bars=fed,
                    guards=metrics["guards"],
                    assumptions=ASSUMPTIONS,
                ),
            },
        )
        trial.result["folder"] = folder.name
    return Run(folder, metrics, ledger.frame, ledger.trades, finished)


# --- what goes in


def _check_cash(cash: float) -> None:
    if not 0 < cash < math.inf:
        raise ConfigError(f"cash is {cash}: write an amount above 0")


def _load_bundle(model: str | Path | Model | None) -> Model | None:
    if not (model is None or isinstance(model, str | Path | Model)):
        raise BundleError(f"the model cannot be {model!r}: name the folder of a bundle")
    return load_model(model) if isinstance(model, str | Path) else model


def _given_params(
    strategy: type[bt.Strategy],
    bundle: Model | None,
    bundles: Sequence[Model],
    bars: Bars,
    params: dict,
) -> dict:
    """Check the user's params, and return those that follow from the model and the market."""
    known = strategy.params._getkeys()
    unknown = [key for key in params if key not in known]
    if unknown:
        raise StrategyError(
            f"{strategy.__name__} has no parameter {unknown[0]!r}: it has {', '.join(known) or 'none'}"
        )
    given = {}
    if bundle is not None:
        if "model" not in known:
            raise StrategyError(f"{strategy.__name__} uses no model: leave it out")
        given["model"] = bundle
    for used in bundles:
        if used.timeframe != format_timeframe(bars.timeframe):
            raise BarsError(
                f"wrong timeframe: the model was trained on bars of {used.timeframe}, these are of "
                f"{format_timeframe(bars.timeframe)}: load or resample to {used.timeframe}"
            )
    if "quantity_step" in known and "quantity_step" not in params:
        given["quantity_step"] = bars.market.quantity_step
    return given


def span_of(bars: Bars, since: Time | None, until: Time | None, setup: Setup) -> tuple[Bars, pd.Timestamp]:
    """Return the bars to feed, the model's warm-up before the first one that counts, and that one's open.

    Raises BarsError for too few bars, as ``run_backtest`` does.
    """
    opens, warmup = bars.open_times, setup.warmup
    if len(bars) <= warmup:
        raise BarsError(
            f"too few bars: the model needs {warmup} before the first one traded, and there are {len(bars)}"
        )
    start = _first_out_of_sample(opens, setup) if since is None else int(opens.searchsorted(parse_time(since)))
    if start < warmup:
        raise BarsError(
            f"too few bars before {since}: the model needs {warmup} and there are {start}, so begin at "
            f"{opens[warmup]:%Y-%m-%d %H:%M} or later, or load earlier bars"
        )
    inside = bars.between(opens[start] if since is None else since, until)
    return bars[start - warmup : start + len(inside)], inside.open_times[0]


def _first_out_of_sample(opens: pd.DatetimeIndex, setup: Setup) -> int:
    """Return the first bar with a warm-up that no model was trained on; if none, the first warm one."""
    if not setup.bundles:
        return 0
    start = max(setup.warmup, int(opens.searchsorted(setup.trained_until)))
    return start if start < len(opens) else setup.warmup


# --- what is tried


def trial_config(setup: Setup, seed: int, fed: Bars, first_open: pd.Timestamp) -> dict:
    """Return all that makes this another trial than the next one, the strategy's code too."""
    return {
        **described(setup, seed),
        "code_sha256": _code_sha256(setup.strategy),
        "guards": [
            [type(guard).__name__, {k: _plain(v) for k, v in vars(guard).items()}] for guard in setup.guards
        ],
        "funding_sha256": setup.funding and setup.funding.sha256,
        "bars_sha256": fed.sha256,
        "first_open": first_open.isoformat(),
    }


def _code_sha256(strategy: type) -> str | None:
    """Return the sha256 of the file that a class stands in; None for one that was typed in."""
    file = getattr(sys.modules.get(strategy.__module__), "__file__", None)
    return hashlib.sha256(Path(file).read_bytes()).hexdigest() if file and Path(file).is_file() else None


def trial_facts(setup: Setup, bars: Bars) -> dict:
    """Return what the ledger of trials says of a backtest beside its config."""
    return {
        "symbol": bars.market.symbol,
        "timeframe": format_timeframe(bars.timeframe),
        "bundles": [part.sha256 for bundle in setup.bundles for part in parts_of(bundle)],
        "source": described_bars(bars),
    }


def _significance(ledger: Ledger, bars: Bars, trials: Trials, trial: Trial) -> dict:
    """Weigh a run that is under way: the ledger of trials has its Sharpe ratio only when it has ended."""
    own = Outcome(trial.result["sharpe"], trial.result["observations"])
    known = {trial.config_sha256: None if math.isnan(own.sharpe) else own}
    tried = trials.tried(bars.market.symbol, format_timeframe(bars.timeframe)) | known
    weighed = significance(ledger.frame, bars.market.periods_per_year, tried.values())
    faults = [] if trial.row else ["This run could not be entered in the trial ledger."]
    return {**weighed, "ledger_faults": faults + trials.verify()}


# --- what comes out


def _metrics(finished: bt.Strategy, setup: Setup, in_sample: bool) -> dict:
    ledger, broker, costs = finished.analyzers.ledger, finished.broker, setup.costs
    days, inverse = setup.market.periods_per_year, _is_inverse(setup.market)
    return {
        "in_sample": in_sample,
        "trading": trading_metrics(ledger.frame, ledger.trades, ledger.fills, days),
        "costs": cost_report(ledger.frame, ledger.fills, days, costs.half_spread),
        "counts": dict(sorted(broker.counts.items())),
        "guards": guard_record(finished),
        "buy_and_hold": trading_metrics(*buy_and_hold(ledger.frame, costs.taker, inverse), days),
        "forecast": setup.bundle and forecast_metrics(ledger.frame, setup.bundle.horizon),
        **({"walk_forward": _turns(finished, setup.bundle)} if isinstance(setup.bundle, RelayBundle) else {}),
    }


def _turns(finished: bt.Strategy, relay: RelayBundle) -> list[dict]:
    """Return what each model was trained on, how many bars it traded, and with what return."""
    ledger = finished.analyzers.ledger.frame
    opens = ledger["close_time"] - finished.data.bars.timeframe  # whoever decided before a bar opened trades it
    growth = ledger["value"] / ledger["value"].shift(fill_value=ledger.attrs["start_value"])
    rows = []
    for number, traded in growth.groupby(relay.in_charge(opens.map(pd.Timestamp.timestamp).to_numpy())):
        part = relay.parts[number]
        rows.append(
            {
                "since": opens[traded.index[0]].isoformat(),
                "trained_from": part.bundle.training_span["start"],
                "trained_until": part.bundle.training_span["end"],
                "bars": len(traded),
                "total_return": float(traded.prod() - 1),
                "sha256": part.bundle.sha256,
            }
        )
    return rows


def _is_inverse(market: Market) -> bool:
    """Tell whether the account counts in the asset itself, so that to hold it changes nothing."""
    return market.contract == "inverse"


def guard_record(finished: bt.Strategy) -> list[dict]:
    """Return the record of the broker's and the strategy's guards in a run, with times as ISO 8601."""
    found = (getattr(enforcer, "guards", None) for enforcer in (finished.broker, finished))
    rows = [row for guards in found if guards is not None for row in guards.record]
    return [row | {name: _iso(row[name]) for name in ("since", "until")} for row in rows]


def _iso(date_number: float | None) -> str | None:
    return None if date_number is None else pd.Timestamp(to_ms(date_number), unit="ms", tz="UTC").isoformat()


def _notes(metrics: dict, setup: Setup) -> dict[str, str]:
    notes = {
        "Taker fee": f"{setup.costs.taker * 1e4:g} bp",
        "Trades": str(metrics["trading"]["trades"]),
        "Significance": metrics["significance"]["sentence"],
    }
    if metrics["in_sample"]:
        notes["IN SAMPLE"] = f"the model was trained on bars up to {setup.trained_until.isoformat()}"
    return notes


def _record(finished: bt.Strategy, bars: Bars, setup: Setup, seed: int) -> dict:
    """Return what run.json holds: everything needed to repeat the run."""
    ledger = finished.analyzers.ledger.frame
    closes = ledger["close_time"]
    return {
        **described(setup, seed),
        "funding": None if setup.funding is None else _describe_funding(setup.funding, finished.broker),
        "span": {
            "first_open": (closes.iloc[0] - bars.timeframe).isoformat(),
            "last_close": closes.iloc[-1].isoformat(),
            "bars": len(ledger),
            "fed_from": finished.data.bars.open_times[0].isoformat(),
        },
        "source": described_bars(bars),
        "loop": finished.analyzers.ledger.loop,
        **provenance(),
    }


def described(setup: Setup, seed: int) -> dict:
    """Return what was run, but for the bars and their funding, as JSON can hold it."""
    params = {**setup.strategy.params._getpairs(), **setup.params}
    return {
        "strategy": _source(setup.strategy),
        "params": {key: _plain(value) for key, value in params.items()},
        "seed": seed,
        "cash": setup.cash,
        "costs": {**setup.costs.model_dump(), "contract": "inverse" if _is_inverse(setup.market) else "linear"},
        "bundle": None if setup.bundle is None else described_bundle(setup.bundle),
        "trained_until": None if setup.trained_until is None else setup.trained_until.isoformat(),
    }


def described_bars(bars: Bars) -> dict:
    """Return which bars these are, as JSON can hold it."""
    return {
        **asdict(bars.market),
        "timeframe": format_timeframe(bars.timeframe),
        "first_open": bars.open_times[0].isoformat(),
        "last_close": bars.frame.index[-1].isoformat(),
        "bars": len(bars),
        "sha256": bars.sha256,
    }


def _source(strategy: type) -> str:
    """Return the file and name of a class, as ``hissbt backtest`` takes them, or else its module and name."""
    file = getattr(sys.modules.get(strategy.__module__), "__file__", None)
    return f"{file or strategy.__module__}:{strategy.__qualname__}"


def described_bundle(bundle: Model) -> dict:
    """Return which model this is, as JSON can hold it; of a relay, its parts too."""
    names = ("sha256", "kind", "symbol", "timeframe", "horizon", "training_span", "data_sha256", "seed")
    found = {name: getattr(bundle, name) for name in names}
    if isinstance(bundle, RelayBundle):
        found |= {"embargo": bundle.embargo, "parts": described_parts(bundle)}
    return found


def _describe_funding(funding: Funding, broker: bt.BrokerBase) -> dict:
    """Return what funding was used, and how much of what was due in the run is known."""
    (coverage,) = broker.coverage.values()
    holes = [
        {"first": hole.first.isoformat(), "last": hole.last.isoformat(), "events": hole.events}
        for hole in coverage.missing
    ]
    known = {"expected": coverage.expected, "present": coverage.present, "share": coverage.share, "missing": holes}
    return {"symbol": funding.symbol, "sha256": funding.sha256, **known}


def _plain(value: object) -> object:
    """Return a param as JSON can hold it."""
    if isinstance(value, Model):
        return {"sha256": value.sha256}
    return value if value is None or isinstance(value, bool | int | float | str) else repr(value)
