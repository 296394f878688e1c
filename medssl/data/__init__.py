"""From what the user points at to batches: sources, readers, the store, splits, the loader."""
