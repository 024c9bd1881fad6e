"""The data sets by name: open(split, **fields of the config's section `data`) -> Source."""

from collections.abc import Callable

from jaxseg.data.aerial import open_dubai, open_loveda, open_potsdam_crops, open_vaihingen
from jaxseg.data.bsds500 import open_bsds500
from jaxseg.data.camvid import open_camvid
from jaxseg.data.cityscapes import open_cityscapes19, open_cityscapes27
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
from jaxseg.data.kitti import open_kitti_semantic, open_kitti_step
from jaxseg.data.packed import open_packed
from jaxseg.data.potsdam import open_potsdam, open_potsdam3
from jaxseg.data.scenes import Scenes
from jaxseg.data.source import Source
from jaxseg.data.tfds import open_tfds
from jaxseg.data.voc import open_voc12

SOURCES: dict[str, Callable[..., Source]] = {
    "bsds500": open_bsds500,
    "camvid": open_camvid,
    "cityscapes19": open_cityscapes19,
    "cityscapes27": open_cityscapes27,
    "coco": open_coco,
    "coco_panoptic": open_coco_panoptic,
    "cocopersons": open_cocopersons,
    "cocostuff15": open_cocostuff15,
    "cocostuff171": open_cocostuff171,
    "cocostuff182": open_cocostuff182,
    "cocostuff27": open_cocostuff27,
    "cocostuff3": open_cocostuff3,
    "densepose": open_densepose,
    "dubai": open_dubai,
    "folder": open_folder,
    "kitti_semantic": open_kitti_semantic,
    "kitti_step": open_kitti_step,
    "loveda": open_loveda,
    "packed": open_packed,
    "potsdam": open_potsdam,
    "potsdam3": open_potsdam3,
    "potsdam_crops": open_potsdam_crops,
    "scenes": Scenes,
    "tfds": open_tfds,
    "vaihingen": open_vaihingen,
    "voc12": open_voc12,
}
