"""The checks of `medssl doctor`: each file of this folder has a `check()` that yields findings, and changes nothing."""
