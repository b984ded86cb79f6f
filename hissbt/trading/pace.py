"""How long to hold, and how long to pause: rules that count bars."""

import math


class Pace:
    """Counts the bars in a position and since the last one: call ``update`` once at each close, then ask.

    A position that is filled at the open of a bar has been held for 1 bar at its close. An order that is placed
    when ``n`` were held and fills at the next open therefore makes it ``n`` bars from open to open.

    ``min_holding_bars``: held at least that long (``may_leave``). ``max_holding_bars``: held no longer
    (``is_overdue``), None for any time. ``cooldown_bars``: whole bars that pass between the one in which a
    position ended and the one in which the next can begin (``may_enter``).
    """

    def __init__(self, min_holding_bars: int = 0, max_holding_bars: int | None = None, cooldown_bars: int = 0):
        self._least, self._cooldown = min_holding_bars, cooldown_bars
        self._most = math.inf if max_holding_bars is None else max_holding_bars
        self._side = 0
        self._bar = self._since = 0
        self._ended = -math.inf

    def update(self, bar: int, side: int, ended: bool = False) -> None:
        """Take the number of the bar that closes and the side that is held: 1 long, -1 short, 0 flat.

        ``ended`` tells of a position that came and went since the last close, of which ``side`` shows nothing.
        A bar may be told of again.
        """
        self._bar = bar
        if side != self._side:
            ended = ended or self._side != 0
            self._side, self._since = side, bar
        if ended:
            self._ended = bar

    @property
    def held_bars(self) -> int:
        """Bars in the position, the one of its entry included; 0 when flat."""
        return self._bar - self._since + 1 if self._side else 0

    @property
    def may_enter(self) -> bool:
        """Whether the last position ended long enough ago."""
        return self._bar - self._ended >= self._cooldown

    @property
    def may_leave(self) -> bool:
        """Whether the position was held long enough; also true when flat."""
        return not self._side or self.held_bars >= self._least

    @property
    def is_overdue(self) -> bool:
        """Whether the position was held as long as it may be."""
        return self.held_bars >= self._most
