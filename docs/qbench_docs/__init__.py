"""Generators of the documentation site's references."""
