"""Funding: what a position is charged at each event, and for how long nobody knows what was held."""

from __future__ import annotations

import math

from hissbt.errors import ConfigError
from hissbt.trading.booking import BookingLayer
from hissbt.trading.clock import to_date_number
from hissbt.trading.events import checked_coverage, dearest_sizes
from hissbt.trading.instrument import Instrument
from hissbt.trading.journal import FundingCharge


class FundingLayer(BookingLayer):
    """Charges funding."""

    params = (("allow_missing_funding", False),)

    def init(self):
        """Backtrader's hook before a run."""
        super().init()
        self.coverage = {}
        self._funded = {}  # by scheme: the data that its funding is charged on

    def _cover(self, instrument: Instrument) -> None:
        """Note how much of a data's funding is known."""
        series, span = instrument.scheme.p.funding, instrument.span_ms()
        if series is not None and span is not None:
            name = instrument.data._name
            self.coverage[name] = checked_coverage(series, *span, self.p.allow_missing_funding, name)

    def stop(self):
        """Backtrader's hook after a run: judge the funding of feeds whose span was not known before it."""
        super().stop()
        for instrument in self._instruments.values():
            data = instrument.data
            series, name = instrument.scheme.p.funding, data._name
            if series is None or name in self.coverage or instrument.first_ms is None:
                continue
            span = instrument.first_ms, instrument.closed_ms
            allows = self.p.allow_missing_funding or data.islive()  # what is live has happened already
            self.coverage[name] = checked_coverage(series, *span, allows, name)

    def _charge_hole(self, instrument: Instrument) -> None:
        """Charge the events while bars were missing on what was held through the hole."""
        if not instrument.has_events or instrument.previous_ms is None:
            return
        size = self.positions[instrument.data].size
        for time_ms, rate in instrument.events.between(instrument.previous_ms, instrument.opened_ms):
            self._charge(instrument, time_ms, rate, size, instrument.last_close)

    def _charge_events(self, instrument: Instrument) -> None:
        """Charge the events of the bar on what was held just before them, or may have been."""
        held = instrument.sizes or [self.positions[instrument.data].size]
        if not instrument.has_events or not any(held) or instrument.opened_ms is None:
            return
        events = instrument.events.between(instrument.opened_ms, instrument.closed_ms)
        if not events:
            return
        at_open, at_close = instrument.mark_open, instrument.mark_close
        prices = [at_close if time_ms == instrument.closed_ms else at_open for time_ms, _ in events]
        notional = instrument.scheme.notional
        charges = [rate * notional(1.0, price) for (_, rate), price in zip(events, prices, strict=True)]
        sizes = dearest_sizes(held, charges)
        for (time_ms, rate), price, size in zip(events, prices, sizes, strict=True):
            self._charge(instrument, time_ms, rate, size, price)

    def _charge(self, instrument: Instrument, time_ms: int, rate: float, size: float, price: float) -> None:
        if not size:
            return
        data = instrument.data
        first = self._funded.setdefault(id(instrument.scheme), data)
        if first is not data:
            raise ConfigError(
                f"the funding of {first._name} would be charged on {data._name} too: "
                "give each data a PerpCommission of its own, with addcommissioninfo(…, name=…)"
            )
        amount = math.copysign(instrument.scheme.notional(size, price), size) * rate
        self.cash -= amount
        self.d_credit[data] += amount
        self.journal.append(FundingCharge(data, to_date_number(time_ms), rate, amount))
