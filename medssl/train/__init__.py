"""The training loop, its optimisers, learning rate schedule, checkpoints, metrics and processes."""
