"""Allocators: how many tokens each unit gets."""
