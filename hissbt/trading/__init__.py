"""Entry rules, sizing and risk guards."""
