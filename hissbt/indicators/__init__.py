"""Backtrader indicators over a stream."""
