"""Ledger, metrics, tearsheets and run folders."""
