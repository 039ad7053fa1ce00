"""A slice of the payload fuzzer; `make fuzz` runs a million inputs."""

from __future__ import annotations

from benchmarks.fuzz_payloads import fuzz, subjects
from flwr_robustcomp.theory import CATALOGUE


def test_no_input_is_anything_but_refused_or_canonical() -> None:
    findings = [finding for finding in fuzz(6_000, seed=1) if finding is not None]
    assert not findings, findings[0]


def test_every_compressor_is_fuzzed_with_something_that_it_accepts() -> None:
    known = subjects()
    assert {subject.compressor.name for subject in known} == set(CATALOGUE)
    assert all(subject.judge(data) is None for subject in known for data in subject.honest)
