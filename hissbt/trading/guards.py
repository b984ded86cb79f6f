"""Risk guards: what stops a strategy for good."""

from hissbt.errors import ConfigError


class DrawdownGuard:
    """Trips once equity is ``max_drawdown`` (a fraction) or more below its peak, and stays tripped."""

    def __init__(self, max_drawdown: float = 0.15):
        if not 0 < max_drawdown < 1:
            raise ConfigError(f"max_drawdown is {max_drawdown}: write a fraction between 0 and 1, such as 0.15")
        self.max_drawdown = max_drawdown
        self.peak = 0.0
        self.tripped = False

    def update(self, equity: float) -> bool:
        """Take the equity at a bar's close; return whether the guard has tripped, now or before."""
        if equity > self.peak:
            self.peak = equity
        # Written so that an equity of NaN trips it too: nobody should trade on an account of unknown size.
        if not equity > self.peak * (1 - self.max_drawdown):
            self.tripped = True
        return self.tripped
