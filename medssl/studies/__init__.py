"""Many fine-tunings from one YAML file: what is to do, and the processes that do it."""
