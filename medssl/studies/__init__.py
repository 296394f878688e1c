"""Studies: many pretrainings and fine-tunings from one YAML file, planned as jobs and run in processes."""
