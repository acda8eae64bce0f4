"""The `vtc` command, one file a command."""
