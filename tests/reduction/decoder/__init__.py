"""Decoder stages against the slow oracle, and each method against its paper's rule."""
