"""Mergers: what becomes of the tokens that do not stay."""
