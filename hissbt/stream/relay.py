"""A relay as one stream: at each bar the model in charge of it speaks, warm from its first bar on."""

from collections import deque
from itertools import pairwise

import numpy as np

from hissbt.bundle import ModelBundle
from hissbt.errors import StreamError
from hissbt.relay import Model, RelayBundle
from hissbt.stream.stream import Stream, check_bar, pack_snapshot, unpack_snapshot


def open_stream(
    model: Model,
    reset_after: str | None = None,
    rewarm: bool = False,
    session_opens: np.ndarray | None = None,
    regimes: bool = False,
) -> "Stream | RelayStream":
    """Return what runs a bundle or a relay over a series of bars; arguments and errors are those of ``Stream``."""
    kind = RelayStream if isinstance(model, RelayBundle) else Stream
    return kind(model, reset_after, rewarm, session_opens, regimes)


def regimes_ascending(bundle: ModelBundle) -> list[int]:
    """Return the numbers of a switching network's regimes, from the lowest to the highest expected return.

    Training writes the return that each regime expects, on average over the validation span, to the bundle's
    metrics as ``regime_returns``. A bundle without them was trained on labels, which ascend.
    """
    returns = bundle.metrics.get("regime_returns") or range(bundle.config["n_regimes"])
    return sorted(range(len(returns)), key=returns.__getitem__)


class RelayStream:
    """The models of a relay running over one series of bars, with the methods and the arguments of ``Stream``.

    The outputs at a bar are those of the model that is in charge at its close. At its first bar a model starts
    afresh and is warmed over as many of the bars before it as its warm-up takes, that bar included, so what it
    says depends on no model before it. With ``regimes``, each model's are numbered from the lowest to the highest
    expected return: ``regime0`` is bear in all of them.

    Raises what Stream does; StreamError too for a bar that is revised to a time before the turn of the model that
    has taken it.
    """

    def __init__(
        self,
        relay: RelayBundle,
        reset_after: str | None = None,
        rewarm: bool = False,
        session_opens: np.ndarray | None = None,
        regimes: bool = False,
    ):
        bundles = [part.bundle for part in relay.parts]
        self._streams = [Stream(bundle, reset_after, rewarm, session_opens, regimes) for bundle in bundles]
        first = self._streams[0]
        self.bundle = relay
        self.warmup = relay.warmup
        self.bundle_sha256 = relay.sha256  # once: it hashes the weights
        self.reset_after, self.rewarm, self.session_opens = reset_after, rewarm, first.session_opens
        self.fields, self.outputs = first.fields, first.outputs
        """Names of the values of a bar, and of what ``step`` returns, in their order."""
        self._columns = [_columns(stream) for stream in self._streams]
        self._rows = deque(maxlen=max(self.warmup, 2))  # the newest bars: warm-up, and the one before the last
        self._active = 0

    def reset(self) -> None:
        """Forget every bar seen."""
        self._streams[0].reset()
        self._active = 0
        self._rows.clear()

    def step(self, bar: np.ndarray) -> np.ndarray:
        """Take the next closed bar, float64 [6+C] in the order of ``fields``; return the outputs."""
        bar = np.array(bar, dtype=np.float64)
        check_bar(bar, self._rows[-1][0] if self._rows else -np.inf, self.fields)
        self._hand_over(self._in_charge(bar), list(self._rows))
        outputs = self._streams[self._active].step(bar)
        self._rows.append(bar)
        return outputs[self._columns[self._active]]

    def revise(self, bar: np.ndarray) -> np.ndarray:
        """Take other values for the bar that was stepped last; return the outputs."""
        bar = np.array(bar, dtype=np.float64)
        if not self._rows:
            return self._streams[0].revise(bar)  # which says why it cannot
        before = list(self._rows)[:-1]
        check_bar(bar, before[-1][0] if before else -np.inf, self.fields)
        number = self._in_charge(bar)
        if number < self._active:
            raise StreamError(
                f"the bar was closed in the turn of model {self._active + 1} and is revised to one of model "
                f"{number + 1}: a bar that forms never moves back in time"
            )
        if number == self._active:
            outputs = self._streams[number].revise(bar)
        else:
            self._hand_over(number, before)
            outputs = self._streams[number].step(bar)
        self._rows[-1] = bar
        return outputs[self._columns[number]]

    def scan(self, rows: np.ndarray) -> np.ndarray:
        """Step over ``rows`` [T,6+C]; return the outputs [T,..], bit-identical to as many calls of ``step``.

        If one of the rows cannot be taken, none is.
        """
        rows = np.require(rows, np.float64, ["C", "W"]).reshape(-1, len(self.fields))
        self._check(rows)
        numbers = self.bundle.in_charge(rows[:, 0])  # [T], ascending
        turns = [0, *(np.flatnonzero(np.diff(numbers)) + 1), len(rows)] if len(rows) else []
        out = np.empty((len(rows), len(self.outputs)))
        for first, stop in pairwise(turns):
            number = numbers[first]
            self._hand_over(number, list(self._rows))
            out[first:stop] = self._streams[number].scan(rows[first:stop])[:, self._columns[number]]
            self._rows.extend(rows[first:stop][-self._rows.maxlen :].copy())
        return out

    def snapshot(self) -> bytes:
        """Return everything that the next bar depends on: who is in charge, its state, and the newest bars."""
        return pack_snapshot(
            self.bundle_sha256,
            active=np.array([self._active]),
            stream=np.frombuffer(self._streams[self._active].snapshot(), dtype=np.uint8),
            rows=np.array(self._rows, dtype=np.float64).reshape(-1, len(self.fields)),
        )

    def restore(self, snapshot: bytes) -> None:
        """Continue after the bar at which ``snapshot`` was taken."""
        arrays = unpack_snapshot(snapshot, self.bundle_sha256)
        active = int(arrays["active"][0])
        self._streams[active].restore(arrays["stream"].tobytes())
        self._active = active
        self._rows.clear()
        self._rows.extend(arrays["rows"])

    def _in_charge(self, bar: np.ndarray) -> int:
        return int(self.bundle.in_charge(bar[0]))

    def _hand_over(self, number: int, before: list[np.ndarray]) -> None:
        """Put a model in charge, warm from the bars ``before`` its first one."""
        if number == self._active:
            return
        stream = self._streams[number]
        stream.reset()
        count = min(len(before), max(stream.warmup - 1, 0))
        if count:
            stream.scan(np.array(before[-count:]))
        self._active = int(number)

    def _check(self, rows: np.ndarray) -> None:
        last_s = np.concatenate([[self._rows[-1][0] if self._rows else -np.inf], rows[:-1, 0]])  # [T]
        bad = ~(np.isfinite(rows).all(axis=1) & (rows[:, 0] > last_s[: len(rows)]))
        if bad.any():
            first = int(bad.argmax())
            check_bar(rows[first], last_s[first], self.fields)


def _columns(stream: Stream) -> slice | list[int]:
    """Return the places of a part's outputs in the order of the relay's; a slice where that is their own."""
    regimes = [name for name in stream.outputs if name.startswith("regime")]
    if not regimes:
        return slice(None)
    first = stream.outputs.index(regimes[0])
    return [*range(first), *(first + number for number in regimes_ascending(stream.bundle))]
