"""jaxseg learns to segment images from unlabelled images alone."""

__version__ = "0.1.0"
