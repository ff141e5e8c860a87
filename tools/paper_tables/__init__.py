"""The paper's tables, and those that settle its open points, run and printed by commands."""
