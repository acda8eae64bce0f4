"""Stages inside the language model: one engine of hooks on its layers, exact beside the full run with masked keys."""
