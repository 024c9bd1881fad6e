"""The data sets by name: open(split, **fields of the config's section `data`) -> Source."""

from collections.abc import Callable

from jaxseg.data.camvid import open_camvid
from jaxseg.data.folder import open_folder
from jaxseg.data.packed import open_packed
from jaxseg.data.scenes import Scenes
from jaxseg.data.source import Source

SOURCES: dict[str, Callable[..., Source]] = {
    "camvid": open_camvid,
    "folder": open_folder,
    "packed": open_packed,
    "scenes": Scenes,
}
