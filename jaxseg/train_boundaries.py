"""python -m jaxseg.train_boundaries: see jaxseg.commands.train_boundaries."""

from jaxseg.commands.train_boundaries import main

if __name__ == "__main__":
    main()
