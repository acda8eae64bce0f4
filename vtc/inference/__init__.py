"""Loading checkpoints, writing prompts, and asking one question."""
