"""Examples kept in memory: a source that wraps a source."""

import dataclasses

import numpy as np

from jaxseg.data.fingerprint import of_source
from jaxseg.data.source import Example, Wrapper


@dataclasses.dataclass(frozen=True)
class Cached(Wrapper):
    """Reads each example of `source` once and keeps it, decoded, for the life of the process.

    It takes the images' bytes as pixels and, for each label or region map, one to four bytes a
    pixel. Worker processes keep a copy each.
    """

    _kept: dict[int, Example] = dataclasses.field(default_factory=dict, compare=False, repr=False)

    @property
    def fingerprint(self) -> str:
        """That of the source: keeping examples changes none."""
        return of_source(self.source)

    def __getitem__(self, index: int) -> Example:
        # Two threads may both read an example the first time; they read the same.
        kept = self._kept.get(index)
        if kept is None:
            kept = self._kept[index] = _map_dtypes(self.source[index], _narrow)
        return _map_dtypes(kept, lambda array: array.astype(np.int32))

    def __getstate__(self):
        # A worker process starts with an empty cache rather than with a copy sent through a pipe.
        return {"source": self.source, "_kept": {}}

    def __setstate__(self, state):
        self.__dict__.update(state)


def _map_dtypes(example: Example, convert) -> Example:
    """Converts the label and region maps of an example."""
    return dataclasses.replace(
        example,
        label={name: convert(array) for name, array in example.label.items()},
        regions=None if example.regions is None else convert(example.regions),
    )


def _narrow(array: np.ndarray) -> np.ndarray:
    """Returns the map in the smallest integer type that holds its values."""
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    for dtype in (np.int8, np.uint8, np.int16, np.uint16):
        if np.iinfo(dtype).min <= low and high <= np.iinfo(dtype).max:
            return array.astype(dtype)
    return array
