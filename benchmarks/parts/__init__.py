"""Samples of every registered part: one table for each kind, from which contract tests, fuzzers and benchmarks take theirs.

A part without an entry stands in its table as its default constructor makes it. Where that cannot be, `tests/test_parts.py`
says which entry to add.
"""
