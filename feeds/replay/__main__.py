"""``python -m hissbt.feeds.replay``: a Bybit v5 server of one market from files, until it is interrupted."""

import argparse
import asyncio
import contextlib
import signal
import sys
from collections.abc import Sequence

import pandas as pd

from hissbt.errors import ConfigError, HissbtError
from hissbt.feeds.funding import load_funding
from hissbt.feeds.load import load_bars
from hissbt.feeds.replay.clock import Clock
from hissbt.feeds.replay.exchange import TRUNCATIONS
from hissbt.feeds.replay.faults import Faults
from hissbt.feeds.replay.series import CATEGORIES, Series
from hissbt.feeds.replay.server import ReplayServer
from hissbt.timeframe import format_timeframe


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve until Ctrl-C or a termination signal; return 0, or 2 after one sentence about bad input."""
    options = _parser().parse_args(arguments)
    try:
        server = _server(options)
        with contextlib.suppress(KeyboardInterrupt, asyncio.CancelledError):
            asyncio.run(_serve(server))
    except HissbtError as error:
        print(f"replay: {error}", file=sys.stderr)
        return error.exit_code
    return 0


async def _serve(server: ReplayServer) -> None:
    # Through the loop, since an exception out of a signal handler could hit the reply that is being made.
    cancel = asyncio.current_task().cancel
    for end in (signal.SIGINT, signal.SIGTERM):
        with contextlib.suppress(NotImplementedError):  # Windows
            asyncio.get_running_loop().add_signal_handler(end, cancel)
    await server.serve(lambda: print(_listening(server), flush=True))


def _server(options: argparse.Namespace) -> ReplayServer:
    bars = load_bars(options.bars, timeframe=options.timeframe)
    funding = None
    if options.funding is not None:
        events = load_funding(options.funding)
        funding = pd.Series(events.rates, index=events.times)
    if options.speed is not None and options.start is None:
        raise ConfigError("--speed needs --start, the moment from which the clock runs")
    speed = 1.0 if options.speed is None else options.speed
    return ReplayServer(
        [Series(options.category, options.symbol, bars, funding)],
        clock=None if options.start is None else Clock(options.start, speed),
        faults=None if options.faults is None else Faults(options.faults),
        truncate=options.truncate,
        port=options.port,
    )


def _listening(server: ReplayServer) -> str:
    (series,) = server.exchange.by_name.values()
    length = format_timeframe(series.bars.timeframe)
    return f"Bybit v5 with {len(series.bars):,} bars of {series.category} {series.symbol} {length} at {server.url}"


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m hissbt.feeds.replay",
        description="Serve bars as Bybit v5 would, over HTTP and websocket on this machine only.",
    )
    parser.add_argument(
        "--bars", required=True, metavar="FILE", help=".csv, .csv.gz or .parquet, stamped at opens"
    )
    parser.add_argument("--symbol", required=True, help="as Bybit writes it, such as BTCUSDT")
    parser.add_argument(
        "--timeframe", metavar="LENGTH", help="of a bar, such as 1h; read from the times if left out"
    )
    parser.add_argument("--port", type=int, default=0, help="0, if left out: a free one")
    parser.add_argument("--category", default="linear", choices=CATEGORIES)
    parser.add_argument("--funding", metavar="FILE", help="funding rates, with the columns timestamp and rate")
    parser.add_argument(
        "--start",
        metavar="TIME",
        help="what the clock shows first; left out, it stands still a minute after the end",
    )
    parser.add_argument("--speed", type=float, metavar="X", help="of the clock; 1 if left out, 0 stands still")
    parser.add_argument("--faults", type=int, metavar="SEED", help="everything goes wrong now and then")
    parser.add_argument(
        "--truncate",
        default="end",
        choices=TRUNCATIONS,
        help="from which end the rows of a too large window are counted: end gives the newest",
    )
    return parser


if __name__ == "__main__":
    sys.exit(main())
