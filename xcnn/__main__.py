"""`python -m xcnn` is the command `xcnn`."""

from xcnn.cli import main

if __name__ == "__main__":
    main()
