"""Several runs on one page: what was asked of them alike, and which encoder is ahead."""
