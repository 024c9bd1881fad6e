"""The dense CRF by the library that STEGO and SmooSeg call, on the host, to compare with."""

import jax.numpy as jnp
import numpy as np
from jax import Array

from jaxseg.core import UserError


def dense_crf_reference(
    probabilities: Array,
    image: Array,
    valid: Array | None = None,
    *,
    steps: int,
    gaussian_sigma: float,
    gaussian_weight: float,
    bilateral_sigma_xy: float,
    bilateral_sigma_rgb: float,
    bilateral_weight: float,
) -> Array:
    """Returns what `dense_crf` does, as pydensecrf2 computes it: f32[B H W K].

    Arguments as there, but `valid` bool[B H W] must be a rectangle at the top left; the rest keeps
    its probabilities. Works on arrays, not under jit. Raises UserError where the library is not
    installed.

    Source: github.com/lucasb-eyer/pydensecrf, which wraps the code of Krähenbühl & Koltun 2011.
    """
    try:
        import pydensecrf.densecrf as library
    except ImportError as error:
        raise UserError(
            "The refiner crf_reference needs pydensecrf2; install jaxseg[crf], or use the refiner "
            "crf, which needs nothing."
        ) from error
    refined = np.array(probabilities, np.float32)
    images = np.asarray(image)
    for one, row in enumerate(refined):
        real = np.ones(row.shape[:2], bool) if valid is None else np.asarray(valid[one])
        if not real.any():
            continue
        height, width = int(real.any(axis=1).sum()), int(real.any(axis=0).sum())
        classes = row.shape[2]
        unary = -np.log(np.clip(row[:height, :width], 1e-5, 1))
        crf = library.DenseCRF2D(width, height, classes)
        crf.setUnaryEnergy(np.ascontiguousarray(unary.reshape(-1, classes).T))
        crf.addPairwiseGaussian(sxy=gaussian_sigma, compat=gaussian_weight)
        crf.addPairwiseBilateral(
            sxy=bilateral_sigma_xy,
            srgb=bilateral_sigma_rgb,
            rgbim=np.array(images[one, :height, :width, :3], order="C"),
            compat=bilateral_weight,
        )
        q = np.asarray(crf.inference(steps)).reshape(classes, height, width)
        refined[one, :height, :width] = np.moveaxis(q, 0, -1)
    return jnp.asarray(refined)
