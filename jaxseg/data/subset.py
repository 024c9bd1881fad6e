"""Some examples of a source: a source that wraps a source."""

import dataclasses

from jaxseg.data.source import Example, Wrapper


@dataclasses.dataclass(frozen=True)
class Subset(Wrapper):
    """Those of `source` at `indices`, in their order."""

    indices: tuple[int, ...]

    def __len__(self) -> int:
        return len(self.indices)

    def __getitem__(self, index: int) -> Example:
        return self.source[self.indices[index]]
