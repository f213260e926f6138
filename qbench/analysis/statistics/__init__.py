"""Estimates with intervals, and verdicts on differences."""
