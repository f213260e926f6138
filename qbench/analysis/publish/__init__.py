"""Checks of reports before publication, and their waivers."""
