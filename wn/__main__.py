"""`python -m wn` does what the command `wn` does."""

from wn.cli.main import main

if __name__ == "__main__":
    main()
