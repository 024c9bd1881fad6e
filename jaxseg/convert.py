"""Converts published weights to ours: python -m jaxseg.convert SOURCE --out=FILE.safetensors"""

import sys

from jaxseg.commands.convert import main

if __name__ == "__main__":
    main(sys.argv[1:])
