"""SmooSeg on your own images: any tree of JPEG, PNG, WebP or TIFF files.

python -m jaxseg.main --config=configs/smooseg_folder.py \
    --config.data.root=DIR --config.method.weights=FILE

FILE holds DINO's ViT-S/8, through python -m jaxseg.convert. Give method.backbone where it is
another. Should it collapse, --mode=suggest_thresholds looks for method.beta_within and
method.beta_across that suit your images.

Hardware and hours: not run. Published: none; measured: not run.
"""

from configs import frozen_base, smooseg_base


def get_config():
    config = frozen_base.folder(smooseg_base.smooseg(clusters=8))
    config.data.test_pad_multiple = 8  # a patch
    return config
