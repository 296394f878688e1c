"""A pretraining put together from its parts, and what happens beside its steps."""
