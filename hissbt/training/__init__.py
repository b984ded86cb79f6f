"""From bars to a bundle."""
