"""Segments images: python -m jaxseg.predict --model=WORKDIR IMAGES... --out=DIR"""

import sys

from jaxseg.commands.predict import main

if __name__ == "__main__":
    main(sys.argv[1:])
