"""Everything that is needed to use an encoder: weights and their card."""
