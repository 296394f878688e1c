"""One file a command of the command line: what it does, from its options to its last line."""
