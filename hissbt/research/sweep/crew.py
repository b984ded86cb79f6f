"""Who runs the backtests: processes here, or the workers of a Dask or Ray cluster, all through joblib.

Workers may be killed at any moment. What they had not finished is run again.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Future
from concurrent.futures.process import BrokenProcessPool
from contextlib import AbstractContextManager, contextmanager
from functools import partial
from itertools import chain
from typing import Any, NamedTuple

from hissbt.errors import ConfigError
from hissbt.research.sweep.jobs import Job, Stage, failure, play

_SHARED_BYTES = 2**14  # arrays from this size on are written once and mapped by all processes of this machine
_CONNECT_S = 10
_ATTEMPTS = 2  # of a backtest on its own, once workers die and nothing gets done


class Crew(NamedTuple):
    """Workers of one kind."""

    joblib: Callable[[], AbstractContextManager]
    """Makes joblib use them; called anew when some were lost."""
    lost: tuple[type[BaseException], ...]
    """What is raised when they were."""


def outcomes(stage: Stage, jobs: Sequence[Job], crew: Crew) -> Iterator[dict[str, Any]]:
    """Yield the outcome of each job as soon as it is known, in no order.

    A job whose worker dies again and again, though it runs alone, has failed.
    """
    missing = {job.number: job for job in jobs}
    while missing:
        before = len(missing)
        for outcome in _until_lost(stage, list(missing.values()), crew):
            del missing[outcome["job"]]
            yield outcome
        if len(missing) == before:
            break
    for job in missing.values():
        attempts = chain.from_iterable(_until_lost(stage, [job], crew) for _ in range(_ATTEMPTS))
        yield next(attempts, failure(job, "the process that ran it was killed, each time"))


def _until_lost(stage: Stage, jobs: Sequence[Job], crew: Crew) -> Iterator[dict[str, Any]]:
    from joblib import Parallel, delayed

    with crew.joblib():
        parallel = Parallel(return_as="generator_unordered", batch_size=1)
        found = parallel(delayed(play)(stage, job) for job in jobs)
    try:
        yield from map(json.loads, found)
    except crew.lost:
        return


@contextmanager
def crew_of(backend: str, scheduler: str | None, workers: int | None, stage: Stage) -> Iterator[Crew]:
    """Make the workers of a ``backend`` ready for a stage.

    Raises ConfigError for an unknown backend, for one that is not installed, and for a cluster that cannot be
    reached or whose workers run several jobs in one process.
    """
    if backend not in _BACKENDS:
        raise ConfigError(f"unknown backend {backend!r}: choose one of {', '.join(_BACKENDS)}")
    with _BACKENDS[backend](scheduler, workers, stage) as crew:
        yield crew


@contextmanager
def _local(scheduler: str | None, workers: int | None, stage: Stage) -> Iterator[Crew]:
    from joblib import parallel_config

    if scheduler is not None:
        raise ConfigError(f"local processes have no scheduler {scheduler}: leave it out, or choose dask or ray")
    # Copied where written to: of arrays that cannot be, compiled code would be compiled once more.
    shared = {"max_nbytes": _SHARED_BYTES, "mmap_mode": "c"}
    every = {"n_jobs": workers or -1, "inner_max_num_threads": 1}
    yield Crew(partial(parallel_config, "loky", **every, **shared), (BrokenProcessPool,))


@contextmanager
def _dask(scheduler: str | None, workers: int | None, stage: Stage) -> Iterator[Crew]:
    try:
        from distributed import Client, KilledWorker
    except ImportError as error:
        raise ConfigError("Dask is not installed: pip install 'hissbt[dask]'") from error
    from joblib import parallel_config

    if scheduler is None:
        raise ConfigError("no scheduler: give the address of a Dask scheduler, such as tcp://127.0.0.1:8786")
    if workers is not None:
        raise ConfigError("the number of workers is the Dask cluster's: leave it out")
    try:
        client = Client(scheduler, timeout=_CONNECT_S, set_as_default=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"no Dask scheduler answers at {scheduler}: check the address ({error})") from error
    with client:
        _check_threads(client.nthreads())
        backend = _dask_backend()
        make = partial(backend, client=client, scatter=[stage])
        yield Crew(lambda: parallel_config(make()), (KilledWorker, CancelledError, TimeoutError))


def _check_threads(threads: dict[str, int]) -> None:
    """Refuse workers that run backtests side by side in one process: these share Python's random numbers."""
    if any(count > 1 for count in threads.values()):
        raise ConfigError(
            "a worker of the Dask cluster has several threads, and backtests share a process badly: start workers "
            "with --nthreads 1 --nworkers -1"
        )


def _dask_backend() -> type:
    from joblib._dask import DaskDistributedBackend  # which imports distributed, where that is installed

    class Lossy(DaskDistributedBackend):
        """joblib's own waits for ever for a task whose worker died too often, as it tells only of success."""

        def submit(self, func: Callable, callback: Callable | None = None) -> Future:
            future = super().submit(func, callback)
            future.add_done_callback(partial(_tell_error, callback))
            return future

        def retrieve_result_callback(self, out: Any) -> Any:
            if isinstance(out, BaseException):
                raise out
            return super().retrieve_result_callback(out)

    return Lossy


def _tell_error(callback: Callable, future: Future) -> None:
    if (error := future.exception()) is not None:
        callback(error)


@contextmanager
def _ray(scheduler: str | None, workers: int | None, stage: Stage) -> Iterator[Crew]:
    try:
        import ray
        from ray.util.joblib import register_ray
    except ImportError as error:
        raise ConfigError("Ray is not installed: pip install ray") from error
    from joblib import parallel_config

    ray.init(address=scheduler, num_cpus=None if scheduler else workers, ignore_reinit_error=True)
    register_ray()
    try:
        yield Crew(partial(parallel_config, "ray", n_jobs=workers or -1), (ray.exceptions.RayError,))
    finally:
        ray.shutdown()


_BACKENDS = {"local": _local, "dask": _dask, "ray": _ray}
