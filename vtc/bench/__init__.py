"""Measured quality and cost: how recipes compare on the same pictures and questions."""
