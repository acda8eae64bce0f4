"""Mutation testing: small edits of the source, one at a time, that the tests should notice (`python -m tools.mutation`)."""
