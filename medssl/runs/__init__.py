"""A run: its folder and lock, its configuration, its data, and the cards of its encoder and its classifier."""
