"""What a backtest is charged, as settings: those of PerpBroker that a run can have."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, ClassVar

from pydantic import Field

from hissbt.market import Market
from hissbt.settings import Settings
from hissbt.trading.broker import PerpBroker
from hissbt.trading.events import FundingSeries
from hissbt.trading.guards import Guard

Rate = Annotated[float, Field(ge=0, lt=1)]


class Costs(Settings):
    """Costs and terms of a run, all fractions of price or notional; see ``PerpBroker`` for what each one does."""

    kind: ClassVar[str] = "cost"

    taker: Rate | None = Field(None, description="a fraction of notional, such as 0.00055 for 5.5 bp")
    maker: float | None = Field(
        None, gt=-0.01, lt=1, description="a fraction of notional, such as 0.0002; negative for a rebate"
    )
    # Half a basis point: more than the spread of a large perpetual future, less than that of a small one.
    half_spread: Rate = Field(0.00005, description="a fraction of price, such as 0.00005 for half a basis point")
    # The order of magnitude that studies of very different markets agree on, see hissbt.trading.impact.
    impact: float = Field(1.0, ge=0, description="the coefficient of the square-root law, a number of 0 or more")
    volume_limit: float | None = Field(
        None, gt=0, le=1, description="the share of a bar's volume that may be filled, above 0 and at most 1"
    )
    latency_bars: int = Field(0, ge=0, description="a whole number of bars")
    leverage: float = Field(1.0, gt=0, description="notional over posted margin, a number above 0")
    maintenance: Rate | tuple[tuple[float, float], ...] = Field(
        0.005, description="a fraction of notional, or tiers such as [[0, 0.005], [2000000, 0.01]]"
    )
    liquidation_fee: Rate | None = Field(None, description="a fraction of notional; the taker fee if left out")
    allow_missing_funding: bool = Field(False, description="true or false")

    def on(self, market: Market) -> Costs:
        """Return the same with the market's own fees where none were set."""
        taker = market.taker if self.taker is None else self.taker
        maker = market.maker if self.maker is None else self.maker
        fee = taker if self.liquidation_fee is None else self.liquidation_fee
        return self.model_copy(update={"taker": taker, "maker": maker, "liquidation_fee": fee})

    def broker(
        self,
        market: Market,
        *,
        cash: float,
        funding: FundingSeries | None = None,
        guards: Sequence[Guard] = (),
    ) -> PerpBroker:
        """Return a broker for one market; raises ConfigError for more leverage than it allows."""
        terms = self.on(market).model_dump()
        contract = "inverse" if market.contract == "inverse" else "linear"
        broker = PerpBroker(**terms, contract=contract, funding=funding, market=market, guards=tuple(guards))
        broker.setcash(cash)
        return broker
