"""Real bars that come with an installed package, for the demo and the tests."""

from hissbt.bars import Bars
from hissbt.market import Market

SP500 = Market("SP500", taker=0.0001, maker=0.0001, calendar="XNYS")


def sp500(market: Market | None = None) -> Bars:
    """Return 5,031 daily bars of the S&P 500 index, 1999 to 2018, from ``arch.data.sp500``.

    Its column Adj Close is left out: it equals Close on every row, as an index pays no dividends.
    """
    # Imported here: arch takes two seconds, which readers of files should not wait for.
    from arch.data import sp500 as sample

    frame = sample.load().drop(columns="Adj Close")
    return Bars.from_frame(frame, market=market or SP500, timeframe="1d")
