"""A run's records: metrics.jsonl first, MLflow fed from it."""
