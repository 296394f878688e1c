"""Tables of labels: what their columns mean, and which images their rows belong to."""
