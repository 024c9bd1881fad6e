"""Region maps by a pool of processes on one machine.

Each process holds one image at a time, so that memory is bounded by their number; few images wait.
A process that dies, as Linux ends one when memory is short, takes its pool with it. The images that
were under way are then done one at a time, so that it is known which one does not fit.
"""

import collections
import concurrent.futures
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Sequence
from concurrent.futures.process import BrokenProcessPool

import cv2
import threadpoolctl

from jaxseg.boundaries.detectors import Detect
from jaxseg.commands.region_map import Outcome, Settings, make_map
from jaxseg.core import UserError

_AHEAD = 2  # images a process that are handed out at a time
_DEATHS = 3  # of processes in a row, each with one image, after which none will live
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
        UserError: maps cannot be written, or no process stays alive.
    """
    waiting, suspects = collections.deque(names), collections.deque[str]()
    deaths = 0
    while waiting or suspects:
        if not suspects:
            suspects.extend(_flow(settings, waiting, processes, processes * _AHEAD, done))
            continue
        before = len(suspects)
        for name in _flow(settings, suspects, 1, 1, done):
            deaths = deaths + 1 if len(suspects) == before - 1 else 1
            if deaths == _DEATHS:
                raise UserError(
                    f"{deaths} worker processes in a row ended as soon as they began, the last one "
                    f"with {name}. Is memory left? Give a smaller --side; what is done is kept"
                )
            done(Outcome(name, _DIED))


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
    under_way: dict[concurrent.futures.Future[Outcome], str] = {}
    pool = concurrent.futures.ProcessPoolExecutor(
        processes, multiprocessing.get_context("spawn"), _begin, (settings,)
    )
    try:
        while waiting or under_way:
            while waiting and len(under_way) < ahead:
                under_way[pool.submit(_work, settings, waiting[0])] = waiting[0]
                waiting.popleft()
            finished = concurrent.futures.wait(
                under_way, return_when=concurrent.futures.FIRST_COMPLETED
            )[0]
            for future in finished:
                done(future.result())
                del under_way[future]
    except BrokenProcessPool:
        return list(under_way.values())
    finally:
        pool.shutdown(cancel_futures=True)
    return []


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
