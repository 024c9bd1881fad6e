"""jaxseg learns to segment images from unlabelled images alone.

jaxseg.load(workdir) gives the segmenter of a trained run; see `jaxseg.segmenter`.
"""

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxseg.segmentation import Segmentation
    from jaxseg.segmenter import Segmenter, load

__all__ = ["Segmentation", "Segmenter", "__version__", "load"]
__version__ = "0.1.0"


def __getattr__(name: str) -> Any:
    # Not before they are asked for: `import jaxseg` alone takes no time.
    if name in __all__:
        from jaxseg import segmenter

        return getattr(segmenter, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
