"""Makes one file of a trained run: python -m jaxseg.bundle WORKDIR --out=FILE"""

import sys

from jaxseg.commands.bundle import main

if __name__ == "__main__":
    main(sys.argv[1:])
