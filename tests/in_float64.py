"""The command line, whose methods train in float64. Two ways to train that ought to give the same do so within 1e-9 then; in float32 a
last digit becomes a large difference within a few steps, on some machines."""

from typing import Any

from medssl import methods
from medssl.cli import main

_build = methods.build


def _build_in_float64(*given: Any) -> Any:
    return _build(*given).double()


if __name__ == "__main__":
    methods.build = _build_in_float64
    main()
