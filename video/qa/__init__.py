"""Questions about video files: two-pass reading, preparing, asking, strategies of several calls."""
