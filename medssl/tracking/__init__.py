"""The metrics of a run: every row is written to metrics.jsonl, and sent from there to MLflow."""
