"""The encoder as a file: weights and their card, and weights of timm networks."""
