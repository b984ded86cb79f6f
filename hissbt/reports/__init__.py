"""Ledger, metrics, tearsheets and run folders."""

from hissbt.reports.ledger import Ledger
from hissbt.reports.tearsheet import tearsheet

__all__ = ["Ledger", "tearsheet"]
