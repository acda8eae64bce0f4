"""Clips: segmenters, frame features and scores, and budgets over clips."""
