"""How `small-llava` was made: a pretrained language model learns to read a tower's tokens (`python -m ...train`)."""
