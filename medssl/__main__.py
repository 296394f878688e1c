"""`python -m medssl` is the command too, as under torchrun."""

from medssl.cli import main

if __name__ == "__main__":
    main()
