"""The methods by name. A method never imports another."""

from jaxseg.core import Method
from jaxseg.methods.colour import Colour
from jaxseg.methods.infoseg import InfoSeg
from jaxseg.methods.smooseg import SmooSeg
from jaxseg.methods.stego import STEGO

METHODS: dict[str, type[Method]] = {
    "colour": Colour,
    "infoseg": InfoSeg,
    "smooseg": SmooSeg,
    "stego": STEGO,
}
