"""The conformance vectors of `tests/vectors`: ``python -m tools.make_vectors [--check]``."""
