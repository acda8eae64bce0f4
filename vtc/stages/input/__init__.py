"""Input stages: what is encoded."""
