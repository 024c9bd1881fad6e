"""Sweep of IIC's lambda on COCO-Stuff-27, in PiCIE's supplement.

python -m jaxseg.main --config=configs/iic_cocostuff27_lambda.py --config.data.root=DIR

Lambda 1, 1.25, 1.5, 1.75, 2 and 3, for both heads: --config.method.lam_a=X --config.method.lam_b=X,
a work directory each.

Hardware and hours: not run. Published: 21.8, 17.6, 16.8, 15.6, 16.4, 16.6 Acc; measured: not run;
a small sweep on CamVid is in benchmarks/RESULTS.md.
"""

from configs import iic_cocostuff27


def get_config():
    config = iic_cocostuff27.get_config()
    config.method.lam_a = 1.25
    config.method.lam_b = 1.25
    return config
