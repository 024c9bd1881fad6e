"""The data sets by name: open(split, **fields of the config's section `data`) -> Source."""

from collections.abc import Callable

from jaxseg.data.camvid import open_camvid
from jaxseg.data.coco import (
    open_coco,
    open_cocostuff3,
    open_cocostuff15,
    open_cocostuff27,
    open_cocostuff171,
    open_cocostuff182,
)
from jaxseg.data.coco_panoptic import open_coco_panoptic
from jaxseg.data.cocopersons import open_cocopersons
from jaxseg.data.densepose import open_densepose
from jaxseg.data.folder import open_folder
from jaxseg.data.scenes import Scenes
from jaxseg.data.source import Source
from jaxseg.data.voc import open_voc12

SOURCES: dict[str, Callable[..., Source]] = {
    "camvid": open_camvid,
    "coco": open_coco,
    "coco_panoptic": open_coco_panoptic,
    "cocopersons": open_cocopersons,
    "cocostuff15": open_cocostuff15,
    "cocostuff171": open_cocostuff171,
    "cocostuff182": open_cocostuff182,
    "cocostuff27": open_cocostuff27,
    "cocostuff3": open_cocostuff3,
    "densepose": open_densepose,
    "folder": open_folder,
    "scenes": Scenes,
    "voc12": open_voc12,
}
