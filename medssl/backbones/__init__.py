"""One file a family of networks: images [B, C, H, W] or volumes [B, C, D, H, W] to features [B, D]."""
