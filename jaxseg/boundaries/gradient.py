"""Edges that are nothing but changes of colour: no weights, no training, no texture."""

import cv2
import numpy as np

from jaxseg.boundaries.edges import Edges, with_angles

# Of the Gaussian whose derivatives are taken, in pixels. Chosen by people's boundaries: on ten of
# BSDS500's training images, 2 and 3 pixels were compared, and boundary F (ODS, 12 thresholds) was
# 0.61 and 0.67. Being the ones it was chosen on, these images do not say how good it is.
_SIGMA = 3.0
# Beyond this distance in CIELab two colours are plainly different, however far apart they are
# (Ruzon & Tomasi 2001, section 2.2). 40 was tried on the same ten images, and not taken.
_FAR = 14.0


def gradient_edges(image: np.ndarray) -> Edges:
    """Returns the colour gradient of an image u8[H W 3] in RGB.

    In each channel of CIELab the Gaussian derivative (sigma 3) is turned into the height of the
    straight step that would give it, in CIELab's units; the channel with the largest counts. A step
    of height E has the strength 1 - exp(-E / 14), Ruzon & Tomasi's measure of how different two
    colours look. The scale is the same for all images, so that a threshold means the same for all.
    """
    lab = cv2.cvtColor(image[..., :3].astype(np.float32) / 255, cv2.COLOR_RGB2Lab)
    smooth = cv2.GaussianBlur(lab, (0, 0), _SIGMA, borderType=cv2.BORDER_REFLECT)
    padded = cv2.copyMakeBorder(smooth, 1, 1, 1, 1, cv2.BORDER_REPLICATE)
    dy = (padded[2:, 1:-1] - padded[:-2, 1:-1]) / 2
    dx = (padded[1:-1, 2:] - padded[1:-1, :-2]) / 2
    # A blurred step's steepest slope is its height times the Gaussian's peak.
    height = np.hypot(dx, dy).max(axis=-1) * (_SIGMA * np.sqrt(2 * np.pi))
    return with_angles((1 - np.exp(-height / _FAR)).astype(np.float32))
