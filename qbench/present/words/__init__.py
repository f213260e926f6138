"""Figures and findings as words, shared by terminal, pages and sites."""
