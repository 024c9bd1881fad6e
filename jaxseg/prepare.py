"""List, check, pack and cut data sets, make regions: python -m jaxseg.prepare --help"""

from jaxseg.commands.prepare import run_main

if __name__ == "__main__":
    run_main()
