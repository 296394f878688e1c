"""Recipes (what a view changes) and the executors that carry them out."""
