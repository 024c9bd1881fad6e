"""Freed memory is kept by the process, so that no step pays for its pages anew."""

import ctypes
import sys

# glibc's names for mallopt(3), from malloc.h.
_TRIM_THRESHOLD, _MMAP_MAX, _ARENA_MAX = -1, -4, -8


def keep() -> None:
    """Lets glibc keep what is freed; call it before JAX starts its threads.

    XLA on a CPU asks for a step's temporary arrays anew at every step, as the input pipeline does
    for batches, and glibc gives blocks of such sizes back to the system in between: clearing
    hundreds of megabytes of new pages took a sixth of the processor time of a step of ResNet-50.
    The process then holds as much memory as it ever needed at once.
    """
    if not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # other C libraries have none
        # Other arenas, which threads have of their own once they began, are limited to 64 MB.
        mallopt(_ARENA_MAX, 1)
        mallopt(_MMAP_MAX, 0)
        mallopt(_TRIM_THRESHOLD, 2**31 - 1)
