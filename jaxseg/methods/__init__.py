"""The methods by name. A method never imports another."""

from jaxseg.core import Method
from jaxseg.methods.colour import Colour
from jaxseg.methods.deepcluster import DeepCluster
from jaxseg.methods.hsg import HSG
from jaxseg.methods.iic import IIC
from jaxseg.methods.infoseg import InfoSeg
from jaxseg.methods.picie import PiCIE
from jaxseg.methods.san import SAN
from jaxseg.methods.segsort import SegSort
from jaxseg.methods.smooseg import SmooSeg
from jaxseg.methods.stego import STEGO
from jaxseg.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "colour": Colour,
    "deepcluster": DeepCluster,
    "hsg": HSG,
    "iic": IIC,
    "infoseg": InfoSeg,
    "picie": PiCIE,
    "san": SAN,
    "segsort": SegSort,
    "smooseg": SmooSeg,
    "stego": STEGO,
    "supervised": Supervised,
}
