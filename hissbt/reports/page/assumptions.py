"""What a run takes for granted about its market and its account, in the words of the run page."""

ASSUMPTIONS = (
    # time
    "Every time is UTC. A bar is stamped with its close and is known then, not before; a decision at a close "
    "sees nothing later.",
    "A market order fills at the open of the next bar, or as many bars later as latency_bars says.",
    # order of fills
    "A stop fills at its price, or at the open where the bar opens beyond it.",
    "A limit fills at its price as soon as a bar touches it, or at the open where that is better. There is no "
    "queue: real limit orders at a touched price often stay unfilled.",
    "Where a bar reaches both the stop and the target, the stop is taken. Each such bar is counted.",
    "After an entry at a bar's open, stop and target work in that same bar, the stop first. After an entry "
    "inside a bar only the stop works in it.",
    # costs of a fill
    "A limit order that rested pays the maker fee. Everything else pays the taker fee, also a limit that could "
    "have been filled on arrival.",
    "A taker fill is worse than the traded price by half_spread + impact × σ × √(Q / V): Q the filled quantity,"
    " σ the daily volatility and V the daily volume of about 30 days of bars closed before the fill. It may lie"
    " outside the bar's range, but never beyond an order's limit.",
    "Impact is paid and gone: later prices are as if the order had never been there.",
    "With a volume limit, all orders together take at most that share of a bar's volume, and the rest waits. "
    "Without one, any size is filled at once.",
    "Quantities are rounded down to the market's step and prices to its tick. An order below the minimum "
    "quantity or value is not sent, and is counted.",
    # funding
    "Funding at T is charged on the position held just before T; at a positive rate longs pay shorts. A fill at"
    " a bar's open comes after an event with the same stamp.",
    "Where a fill inside a bar may lie before or after a funding event, the dearer order of the two is charged.",
    "Funding is on the value at the last price known before the event (the mark price, where one was given). An"
    " event whose rate is unknown charges nothing: see the coverage.",
    # liquidation
    "Margin is isolated. A position is liquidated when the bar's worst price (the mark's, where given) leaves "
    "no more than the maintenance margin: at the liquidation price, or at the open if that is worse.",
    "A stop inside the bar is taken before the liquidation. A liquidation costs its own fee, cancels the open "
    "orders, and never takes more than the posted margin.",
    # guards
    "Guards look at each close and act at the next price that can be traded: a gap can carry the account past a"
    " limit, and by how much is recorded.",
    # what is reported
    "A position that is open at the end is valued at the last close, without the cost of closing it.",
    "Daily returns are of UTC days; a bar that closes at midnight belongs to the day it ends. Ratios are "
    "annualized with the market's trading days and no risk-free rate.",
    "Buy-and-hold buys the asset at the price before the first bar with the whole account, pays one fee, and no"
    " funding.",
    # what is left out
    "There are no outages, no rejected connections, no auto-deleveraging, no taxes, and no interest on idle cash.",
    "The deflated Sharpe ratio knows the trials that hissbt entered in the ledger beside this run. What was tried "
    "elsewhere, or by eye, it does not know.",
)
"""One fact each, for a reader who doubts the result."""
