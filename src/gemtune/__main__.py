"""`python -m gemtune`: the command line of the Python that runs it, whatever is on the PATH."""

from gemtune.cli.app import main

if __name__ == "__main__":
    main()
