"""Decoding whole volumes: for each reader of images whose files hold volumes, one file with the same name."""
