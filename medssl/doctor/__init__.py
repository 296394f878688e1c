"""What can be known of a machine before a training is trusted to it."""
