"""One file per public noun: HTTP in, HTTP out, no decisions."""
