"""`python -m transferclf` is the command `transferclf`."""

from transferclf.cli.main import main

if __name__ == "__main__":
    main()
