"""Scores of class probabilities, and how certain they are."""
