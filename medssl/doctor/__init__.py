"""Checks of a machine before a training: software, hardware, folders, tracking server and a burn-in."""
