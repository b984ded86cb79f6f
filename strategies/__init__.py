"""Runnable Backtrader strategies, one a file."""
