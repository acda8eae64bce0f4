"""Images and sampled video frames: loading, limits, colour, times."""
