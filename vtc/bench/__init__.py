"""Measured quality and cost: how recipes compare on the same images and questions."""
