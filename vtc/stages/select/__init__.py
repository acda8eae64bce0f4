"""Selectors: which candidate tokens stay."""
