"""A trained model that is fed one closed bar at a time and carries its state.

The road of a bar: ``[6+C] bar → features → normalizer → network → expected_return, prob_up, volatility``, or
whatever else the network says of it, all in one compiled function. ``step`` takes a new bar, ``revise`` the same
bar again with other values (Backtrader replays a forming bar, and calls indicators again when another feed moved):
it computes from the state before that bar, so a bar counts exactly once however often it is shown.
"""

import json
import sys
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import numpy as np
import safetensors.numpy
from safetensors import SafetensorError

from hissbt.bars import BAR_FIELDS
from hissbt.bundle import ModelBundle
from hissbt.errors import BarsError, BundleError, ConfigError, StreamError
from hissbt.features import FeatureSet
from hissbt.stream.kernels import run
from hissbt.stream.networks import NETWORKS
from hissbt.stream.plan import Planner, Program
from hissbt.targets import TargetScale
from hissbt.timeframe import parse_timeframe

SNAPSHOT_VERSION = 2


class Stream:
    """One model running over one series of bars.

    ``outputs`` are the names of what it says of a bar, float64. Forecasters give ``expected_return prob_up
    volatility``: mean of the log return over the bundle's horizon, probability that it is positive, and its
    standard deviation. With ``regimes`` a switching network adds ``regime0 …``: the probability of each regime at
    the next bar, filtered from the bars to this one. An ``hvae`` gives ``kl1 …`` and ``recon`` in nats, then the
    means of its latents ``z1_1 …``, all by level from the finest: see ``hissbt.models.hvae.HVAENet``.

    ``reset_after`` makes the model start afresh, as before its first bar, where bars are missing for at least that
    long (``"4h"``), or with the first bar of every new session (``"session"``). Bars alone do not tell sessions
    apart (a lunch break, an outage and a night are all pauses), so these are the UTC days that bars open in,
    unless ``session_opens`` says when they begin: unix seconds [N], ascending, as ``Market.session_opens`` returns
    them; a bar between sessions counts to the one before. With ``rewarm`` the outputs are NaN while fewer than the
    bundle's ``warmup`` bars have passed since the state was fresh, at the start as after a reset.

    Raises BundleError for a kind of network without kernels, or without regimes if these are wanted, ConfigError
    for another ``reset_after``, StreamError for a bar that is not finite, does not come after the last one, or a
    snapshot that does not belong here.
    """

    def __init__(
        self,
        bundle: ModelBundle,
        reset_after: str | None = None,
        rewarm: bool = False,
        session_opens: np.ndarray | None = None,
        regimes: bool = False,
    ):
        if regimes and "n_regimes" not in bundle.config:
            raise BundleError(
                f"this is a {bundle.kind} bundle, which has no regimes: name one of m-gru m-lstm m-tkan"
            )
        self.bundle = bundle
        self.warmup = bundle.warmup
        self.bundle_sha256 = bundle.sha256  # once: it hashes the weights
        self.reset_after = reset_after
        self.rewarm = rewarm
        self.session_opens = np.array([] if session_opens is None else session_opens, dtype=np.float64)
        self._features = FeatureSet(bundle.features)
        resets = (*_resets(bundle.timeframe, reset_after), bundle.warmup - 1.0 if rewarm else 0.0)
        self._program = _program(bundle, self._features, resets, self.session_opens)
        self._row = np.empty((1, len(self.fields)))
        self.outputs = tuple(name for name in self._program.outputs if regimes or not name.startswith("regime"))
        """Names of what ``step`` returns, in its order."""
        self._out = np.empty((1, len(self.outputs)))

    @property
    def fields(self) -> tuple[str, ...]:
        """Names of the values of a bar, in the order in which ``step`` wants them."""
        return (*BAR_FIELDS, *self._features.columns)

    def reset(self) -> None:
        """Forget every bar seen."""
        self._program.reset()

    def step(self, bar: np.ndarray) -> np.ndarray:
        """Take the next closed bar, float64 [6+C] in the order of ``fields``; return the outputs."""
        self._row[0] = bar
        self._run(self._row, self._out)
        return self._out[0].copy()

    def revise(self, bar: np.ndarray) -> np.ndarray:
        """Take other values for the bar that was stepped last; return the outputs."""
        program = self._program
        if program.D[1] == -np.inf:
            raise StreamError("there is no bar to revise: step the first bar before revising it")
        check_bar(np.asarray(bar), program.D[program.memory + 1], self.fields)
        program.undo()
        return self.step(bar)

    def scan(self, rows: np.ndarray) -> np.ndarray:
        """Step over ``rows`` [T,6+C]; return the outputs [T,..], bit-identical to as many calls of ``step``.

        If one of the rows cannot be taken, none is.
        """
        rows = np.require(rows, np.float64, ["C", "W"]).reshape(-1, len(self.fields))
        out = np.empty((len(rows), len(self.outputs)))
        self._run(rows, out)
        return out

    def snapshot(self) -> bytes:
        """Return everything that the next bar depends on: states, chunk phase, last close time, bundle sha."""
        network, rest = self._program.state
        return pack_snapshot(self.bundle_sha256, network=network, rest=rest)

    def restore(self, snapshot: bytes) -> None:
        """Continue after the bar at which ``snapshot`` was taken."""
        arrays = unpack_snapshot(snapshot, self.bundle_sha256)
        for here, name in zip(self._program.state, ("network", "rest"), strict=True):
            if name not in arrays or arrays[name].shape != here.shape or arrays[name].dtype != here.dtype:
                raise StreamError("the snapshot does not fit this bundle: start the stream afresh and warm it up")
        for here, name in zip(self._program.state, ("network", "rest"), strict=True):
            here[:] = arrays[name]

    def _run(self, rows: np.ndarray, out: np.ndarray) -> None:
        program = self._program
        last_s = program.D[1]
        if run.signatures:
            bad = run(program.table, program.W, program.S, program.D, rows, out)
        else:
            with _saying_why_it_takes_long():
                bad = run(program.table, program.W, program.S, program.D, rows, out)
        if bad >= 0:
            check_bar(rows[bad], rows[bad - 1, 0] if bad else last_s, self.fields)


def check_bar(bar: np.ndarray, last_s: float, fields: Sequence[str]) -> None:
    """Raise StreamError, saying why, if a bar cannot follow the one that closed at ``last_s`` (unix seconds)."""
    if not np.isfinite(bar).all():
        name = fields[int(np.argmin(np.isfinite(bar)))]
        raise StreamError(f"the bar that closes at {_stamp(bar[0])} has no finite {name}: repair the bars")
    if bar[0] <= last_s:
        raise StreamError(
            f"the bar that closes at {_stamp(bar[0])} does not come after the last one at "
            f"{_stamp(last_s)}: feed bars in order, each once"
        )


def pack_snapshot(bundle_sha256: str, **arrays: np.ndarray) -> bytes:
    """Return a snapshot of ``arrays`` that belongs to one bundle."""
    header = json.dumps({"version": SNAPSHOT_VERSION, "bundle": bundle_sha256})
    return safetensors.numpy.save({"header": np.frombuffer(header.encode(), dtype=np.uint8), **arrays})


def unpack_snapshot(snapshot: bytes, bundle_sha256: str) -> dict[str, np.ndarray]:
    """Return the arrays of a snapshot; raises StreamError if it is damaged or belongs to another bundle."""
    try:
        arrays = safetensors.numpy.load(snapshot)
        header = json.loads(arrays["header"].tobytes())
        version, owner = header["version"], header["bundle"]
    except (SafetensorError, KeyError, TypeError, ValueError) as error:
        raise StreamError("the snapshot is damaged: start the stream afresh and warm it up") from error
    if version != SNAPSHOT_VERSION:
        raise StreamError(
            f"the snapshot has schema version {version}, this hissbt reads {SNAPSHOT_VERSION}: "
            "start the stream afresh and warm it up"
        )
    if owner != bundle_sha256:
        raise StreamError("the snapshot belongs to another bundle: restore it with the bundle it came from")
    return arrays


def _program(
    bundle: ModelBundle,
    features: FeatureSet,
    resets: tuple[float, float, float, float],
    session_opens: np.ndarray,
) -> Program:
    if bundle.kind not in NETWORKS:
        raise BundleError(f"a stream cannot run a {bundle.kind!r} bundle: it runs {', '.join(NETWORKS)}")
    planner = Planner(features.size)
    try:
        NETWORKS[bundle.kind](planner, bundle.config, bundle.weights)
    except (KeyError, IndexError, TypeError, ValueError) as error:
        raise BundleError(
            f"the weights of this {bundle.kind} bundle do not fit its config ({error}): train it again"
        ) from error
    scale = TargetScale(**bundle.target_scale)
    return planner.finish(features, bundle.normalizer, scale, resets, session_opens)


def _resets(timeframe: str, reset_after: str | None) -> tuple[float, float, float]:
    """Return the timeframe (s), the gap that resets (s), and whether each session does."""
    length_s = parse_timeframe(timeframe).total_seconds()
    if reset_after is None or reset_after == "session":
        return length_s, np.inf, float(reset_after == "session")
    try:
        return length_s, parse_timeframe(reset_after).total_seconds(), 0.0
    except (BarsError, AttributeError) as error:
        raise ConfigError(f"reset_after {reset_after!r} is neither a length such as 4h nor 'session'") from error


@contextmanager
def _saying_why_it_takes_long() -> Iterator[None]:
    """Print a line to stderr if what is inside takes longer than loading compiled code does."""
    text = "hissbt: compiling the stream, once for this installation …"
    timer = threading.Timer(2.0, print, args=(text,), kwargs={"file": sys.stderr, "flush": True})
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _stamp(close_time_s: float) -> str:
    return str(np.datetime64(int(close_time_s), "s")) if np.isfinite(close_time_s) else str(close_time_s)
