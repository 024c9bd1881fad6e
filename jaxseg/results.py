"""Write the page of results: python -m jaxseg.results [WORKDIR...] --out=docs/results.md"""

import sys

from jaxseg.commands.results import main
from jaxseg.core import UserError

if __name__ == "__main__":
    try:
        sys.exit(main())
    except UserError as error:
        sys.exit(f"jaxseg: {error}")
