"""Torch modules built from a model description alone; the content encoder is encode side only."""
