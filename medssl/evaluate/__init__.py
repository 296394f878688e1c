"""What an encoder is worth: features, probes, fine-tuning, metrics, report."""
