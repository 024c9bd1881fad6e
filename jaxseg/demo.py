"""Looks at images through a trained run, in the browser: python -m jaxseg.demo --model=WORKDIR"""

import sys

from jaxseg.commands.demo import main

if __name__ == "__main__":
    main(sys.argv[1:])
