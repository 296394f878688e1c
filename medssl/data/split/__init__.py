"""Train, validation and test: who is assigned where, which labels are drawn, and what leaks."""
