"""Gödel Agent: an agent whose policy and improver are source that it may change (2410.04444)."""
