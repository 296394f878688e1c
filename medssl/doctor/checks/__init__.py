"""The checks of `medssl doctor`: each file has a `check()` that yields results and changes nothing."""
