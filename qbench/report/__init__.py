"""Renders bundles; never measures."""
