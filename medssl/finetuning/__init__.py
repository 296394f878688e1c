"""What a fine-tuning starts from, and what it leaves beside its numbers."""
