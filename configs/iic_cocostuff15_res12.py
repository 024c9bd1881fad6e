"""IIC-res12 on COCO-Stuff-15: ResNet-18 up to its second stage, in PiCIE's comparison.

python -m jaxseg.main --config=configs/iic_cocostuff15_res12.py --config.data.root=DIR

Hardware and hours: not run. Published: 27.9 Acc; measured: not run.
"""

from configs import iic_cocostuff15


def get_config():
    config = iic_cocostuff15.get_config()
    config.method.network = "res12"
    return config
