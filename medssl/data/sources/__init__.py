"""What kind of collection the user points at: one file a kind, each lists Records without reading pixels."""
