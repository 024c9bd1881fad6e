"""What the configs of modified DeepCluster (MDC) share, with every field of the method.

Schedule and geometry are those of PiCIE (see picie_base), whose baseline it is; the released script
for COCO-Stuff has a learning rate of 1e-4.
"""

from ml_collections import ConfigDict

from configs import infoseg_base, picie_base


def mdc(clusters: int) -> ConfigDict:
    """Returns the baseline's network and schedule for `clusters` classes; data is to be named."""
    config = picie_base.views(clusters)
    config.method = ConfigDict(
        {
            "name": "deepcluster",
            "weights": "",  # file written by jaxseg.convert; "" = from scratch
            "online_probes": None,  # probes trained beside it; see frozen_base.linear_probe
            "clusters": clusters,  # K; the supplement tried up to 2500, and K = classes was best
            "backbone": "resnet18",  # or "resnet50", with dim=256
            "dim": 128,  # D, features of a cell
            "fpn": "code",  # or "paper"
            "size": 320,  # side of a view in pixels
            "jitter": (0.3, 0.3, 0.3, 0.1),  # brightness, contrast, saturation, hue
            "smallest_crop": 0.5,  # side of the smallest crop
            "weighting": "proportional",  # as released; or "inverse", "none"
            **picie_base.refit(),
            "dtype": "float32",  # or "bfloat16"
        }
    )
    config.evals.mdc = infoseg_base.evaluation(probe="argmax")
    config.evals.mdc_head = infoseg_base.evaluation(probe="argmax", source="head")
    return config
