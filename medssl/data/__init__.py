"""From a data set's files to batches: sources, readers, the store, splits, the loader."""
