"""The parts of a pretraining, and the monitoring, checkpoints and figures of its steps."""
