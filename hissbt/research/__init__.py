"""Research: what is claimed, set beside what the data say, with the uncertainty printed."""
