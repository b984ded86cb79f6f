"""One-bar inference from a bundle."""
