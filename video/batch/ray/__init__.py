"""Batch video QA on a Ray cluster."""
