"""Where chunks of points are measured: in this process, in local processes, or on a Dask cluster."""

import multiprocessing
import os
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from multiprocessing.connection import wait as wait_for
from typing import Any, Protocol

from mixflight.arch.errors import InputError
from mixflight.sim.table_engine import Tier
from mixflight.sweeping.measure import Chunk, measure_chunk

Job = tuple[str, Tier, Sequence[int]]
"""Name of the part, tier, points."""
RESTARTS = 3
CONNECT_S = 10
AHEAD = 2
"""Chunks that wait for each worker."""


class Workers(Protocol):
    """Measures chunks and gives each back when it is done, in any order."""

    def run(self, text: bytes, jobs: Sequence[Job]) -> Iterator[tuple[Job, Chunk]]:
        """Every job with its chunk; ``text`` is the space."""


class Here:
    """This process, one chunk after the other."""

    def run(self, text: bytes, jobs: Sequence[Job]) -> Iterator[tuple[Job, Chunk]]:
        """In the order given."""
        for job in jobs:
            yield job, measure_chunk(text, job[1], job[2])


def _die_with_parent() -> None:
    """Processes of a killed sweep go too: they would wait for work for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None

    def watch() -> None:
        wait_for([parent.sentinel])
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


class Local:
    """``count`` processes of this machine. A killed one is replaced and its chunks are measured again."""

    def __init__(self, count: int) -> None:
        self.count, self.pool = count, self._start(count)

    @staticmethod
    def _start(count: int) -> ProcessPoolExecutor:
        # Spawned, not forked: threads of numba and of the terminal's table do not survive a fork.
        context = multiprocessing.get_context("spawn")
        return ProcessPoolExecutor(count, mp_context=context, initializer=_die_with_parent)

    def run(self, text: bytes, jobs: Sequence[Job]) -> Iterator[tuple[Job, Chunk]]:
        """As they get done."""
        left, restarts = list(jobs), 0
        while left:
            done: set[str] = set()
            try:
                for job, chunk in self._once(text, left):
                    done.add(job[0])
                    yield job, chunk
            except BrokenProcessPool:
                restarts += 1
                if restarts > RESTARTS:
                    raise InputError(f"local processes must stay alive: they died {restarts} times") from None
                self.pool.shutdown(wait=False, cancel_futures=True)
                self.pool = self._start(self.count)
            left = [job for job in left if job[0] not in done]

    def _once(self, text: bytes, jobs: Sequence[Job]) -> Iterator[tuple[Job, Chunk]]:
        waiting = iter(jobs)
        running: dict[Future[Chunk], Job] = {}
        while True:
            while len(running) < AHEAD * self.count and (job := next(waiting, None)) is not None:
                running[self.pool.submit(measure_chunk, text, job[1], job[2])] = job
            if not running:
                return
            finished, _ = wait(running, return_when=FIRST_COMPLETED)
            for future in finished:
                yield running.pop(future), future.result()

    def stop(self) -> None:
        """End the processes; work that was not asked for any more is dropped."""
        self.pool.shutdown(wait=False, cancel_futures=True)
        for process in list((getattr(self.pool, "_processes", None) or {}).values()):
            process.terminate()


class Cluster:
    """The workers of a Dask scheduler; lost ones are the scheduler's to replace, their chunks are measured again."""

    def __init__(self, client: Any) -> None:
        self.client = client

    def run(self, text: bytes, jobs: Sequence[Job]) -> Iterator[tuple[Job, Chunk]]:
        """As they get done."""
        from distributed import as_completed
        from distributed.client import FutureCancelledError

        waiting = iter(jobs)
        submitted: dict[str, Job] = {}

        def submit() -> Any:
            job = next(waiting, None)
            if job is None:
                return None
            future = self.client.submit(measure_chunk, text, job[1], job[2], pure=False, retries=RESTARTS)
            submitted[future.key] = job
            return future

        cores = sum(self.client.nthreads().values()) or 1
        first = [future for _ in range(AHEAD * cores) if (future := submit()) is not None]
        arriving = as_completed(first, loop=self.client.loop)
        try:
            for future in arriving:
                chunk: Chunk = future.result()
                if (following := submit()) is not None:
                    arriving.add(following)
                yield submitted.pop(future.key), chunk
        except (FutureCancelledError, OSError) as error:
            raise InputError(f"the scheduler must stay reachable; --resume completes the sweep: {error}") from None


@contextmanager
def workers(jobs: int, scheduler: str | None) -> Iterator[Workers]:
    """The workers of ``--jobs`` or ``--scheduler``, ended with the block."""
    if scheduler is not None:
        with _client(scheduler) as client:
            yield Cluster(client)
    elif jobs == 1:
        yield Here()
    else:
        pool = Local(jobs)
        try:
            yield pool
        finally:
            pool.stop()


@contextmanager
def _client(address: str) -> Iterator[Any]:
    try:
        from distributed import Client
        from distributed.comm.registry import get_backend
    except ImportError:
        raise InputError("--scheduler must have Dask: pip install mixflight[cluster]") from None
    import logging

    for name in ("distributed", "distributed.client"):  # the one line below says it; lost workers are nobody's concern
        logging.getLogger(name).setLevel(logging.CRITICAL)
    try:
        get_backend(address.partition("://")[0] if "://" in address else "tcp")  # else Client waits 20 s and complains
        client = Client(address, timeout=CONNECT_S, set_as_default=False)
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        raise InputError(f"--scheduler must be the address of a Dask scheduler, not {address!r}: {error}") from None
    try:
        yield client
    finally:
        client.close(timeout=CONNECT_S)
