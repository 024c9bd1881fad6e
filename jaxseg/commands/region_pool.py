"""Region maps by a pool of processes on one machine.

Each process holds one image at a time, so that memory is bounded by their number; few images wait.
A process that dies, as Linux ends one when memory is short, takes its pool with it. The images that
were under way are then done one at a time, so that it is known which one does not fit.
"""

import collections
import concurrent.futures
import contextlib
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures.process import BrokenProcessPool

import cv2
import threadpoolctl
from absl import logging

from jaxseg.boundaries.detectors import Detect
from jaxseg.commands.region_map import Outcome, Settings, make_map
from jaxseg.core import UserError

# What worker processes find in their environment: a process is one thread, of the libraries behind
# NumPy and of XLA, and several processes cannot share an accelerator.
WORKER_ENVIRONMENT = {
    "OMP_NUM_THREADS": "1",
    "OPENBLAS_NUM_THREADS": "1",
    "MKL_NUM_THREADS": "1",
    "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=false intra_op_parallelism_threads=1",
    "JAX_PLATFORMS": "cpu",
}
_AHEAD = 2  # images a process that are handed out at a time
_DIED = (
    "the process that worked on it was ended from outside, as for want of memory; give a smaller "
    "--side, or cut the image into tiles"
)

_detect: Detect  # of a worker process


def make_maps(
    settings: Settings, names: Sequence[str], processes: int, done: Callable[[Outcome], None]
) -> None:
    """Makes the maps of images, and calls `done` with the outcome of each, in any order.

    Raises:
        UserError: no worker process can begin, or maps cannot be written (also OSError).
    """
    with worker_environment():
        _make_maps(settings, collections.deque(names), processes, done)


def _make_maps(
    settings: Settings,
    waiting: collections.deque[str],
    processes: int,
    done: Callable[[Outcome], None],
) -> None:
    suspects = collections.deque[str]()
    while waiting or suspects:
        if suspects:
            for name in _flow(settings, suspects, 1, 1, done):
                done(Outcome(name, _DIED))
            continue
        suspects.extend(_flow(settings, waiting, processes, processes * _AHEAD, done))
        if suspects:
            logging.warning(
                "a worker process was ended from outside; the %d images that were under way are "
                "done one at a time. Where memory is short, give fewer --processes", len(suspects)
            )  # fmt: skip


@contextlib.contextmanager
def worker_environment() -> Iterator[None]:
    """Sets `WORKER_ENVIRONMENT` for the processes that are spawned in it; restored at the end."""
    before = {name: os.environ.get(name) for name in WORKER_ENVIRONMENT}
    os.environ.update(WORKER_ENVIRONMENT)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _flow(
    settings: Settings,
    waiting: collections.deque[str],
    processes: int,
    ahead: int,
    done: Callable[[Outcome], None],
) -> list[str]:
    """Takes images off the queue until it is empty, `ahead` at a time, or a process dies.

    Returns the images that were under way when it died.
    """
    under_way: list[str] = []
    work: dict[concurrent.futures.Future[Outcome], str] = {}
    pool = concurrent.futures.ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _begin, (settings,)
    )
    try:
        _require_alive(pool)
        while waiting or work:
            while waiting and len(work) < ahead:
                under_way.append(waiting.popleft())
                work[pool.submit(_work, settings, under_way[-1])] = under_way[-1]
            finished = concurrent.futures.wait(
                work, return_when=concurrent.futures.FIRST_COMPLETED
            )[0]
            for future in finished:
                done(future.result())
                under_way.remove(work.pop(future))
    except BrokenProcessPool:
        return under_way
    finally:
        pool.shutdown(cancel_futures=True)
    return []


def _require_alive(pool: concurrent.futures.ProcessPoolExecutor) -> None:
    """Raises UserError where not even a process without an image stays alive."""
    try:
        pool.submit(os.getpid).result()
    except BrokenProcessPool as error:
        raise UserError(
            "a worker process ended before it had an image; what it said stands above. Where "
            "memory is short, give fewer --processes. The maps that are made are kept"
        ) from error


def _begin(settings: Settings) -> None:
    """Prepares a worker process: one thread, the detector, and an end when its parent ends."""
    global _detect
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent tells its workers to stop
    threading.Thread(target=_end_with_parent, daemon=True).start()
    cv2.setNumThreads(1)
    threadpoolctl.threadpool_limits(1)
    _detect = settings.detector()


def _end_with_parent() -> None:
    """Waits for the parent; a killed one leaves workers that would wait for images for ever."""
    parent = multiprocessing.parent_process()
    assert parent is not None
    parent.join()
    os._exit(1)


def _work(settings: Settings, name: str) -> Outcome:
    return make_map(settings, _detect, name)
