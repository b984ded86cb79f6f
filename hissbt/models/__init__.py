"""Torch networks, one family a file: forward over a whole sequence, step over one bar."""
