"""The store: images that were prepared once, their table and their card."""
