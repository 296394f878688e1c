"""The only loop, its optimisers, schedules, checkpoints and monitors."""
