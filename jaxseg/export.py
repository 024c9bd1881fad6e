"""Takes a trained run elsewhere: python -m jaxseg.export WORKDIR --format=stablehlo --out=FILE"""

import sys

from jaxseg.commands.export import main

if __name__ == "__main__":
    main(sys.argv[1:])
