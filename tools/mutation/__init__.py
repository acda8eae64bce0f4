"""Mutation testing: small edits of the source, one at a time, that its tests should notice."""
