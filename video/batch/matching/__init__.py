"""Which choice, or which reference answer, a written answer stands for."""
