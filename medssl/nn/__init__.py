"""The parts that methods share: encoder, heads, losses, support set, target network."""
