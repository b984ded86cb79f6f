"""Where bars come from: files, samples, and the Backtrader feeds."""
