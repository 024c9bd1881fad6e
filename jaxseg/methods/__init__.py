"""The methods by name. A method never imports another."""

from jaxseg.core import Method
from jaxseg.methods.colour import Colour
from jaxseg.methods.deepcluster import DeepCluster
from jaxseg.methods.iic import IIC
from jaxseg.methods.infoseg import InfoSeg
from jaxseg.methods.picie import PiCIE
from jaxseg.methods.smooseg import SmooSeg
from jaxseg.methods.stego import STEGO
from jaxseg.methods.supervised import Supervised

METHODS: dict[str, type[Method]] = {
    "colour": Colour,
    "deepcluster": DeepCluster,
    "iic": IIC,
    "infoseg": InfoSeg,
    "picie": PiCIE,
    "smooseg": SmooSeg,
    "stego": STEGO,
    "supervised": Supervised,
}
