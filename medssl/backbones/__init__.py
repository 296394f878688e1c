"""One file a family of networks: images [B, C, H, W] to features [B, D]."""
