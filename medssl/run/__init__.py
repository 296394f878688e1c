"""The composition root: the one place that joins sources, store, views, methods, loop, tracking and evaluation to commands.

A command is a module; nothing is imported here, as `prepare` needs neither torch nor MLflow, whose imports take seconds.
"""
