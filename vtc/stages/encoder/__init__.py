"""Encoder stages: tokens folded together inside the vision tower."""
