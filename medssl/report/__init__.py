"""The report of one run: a page that opens offline, and its figures."""
