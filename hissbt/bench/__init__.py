"""hissbt bench."""
