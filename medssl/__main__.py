"""`python -m medssl` runs the command line, as torchrun needs it."""

from medssl.cli import main

if __name__ == "__main__":
    main()
