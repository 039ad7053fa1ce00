"""The settings of `make test-machines`: what a processor has, and nothing that steers BLAS."""

from __future__ import annotations

import pytest

from benchmarks import machines
from benchmarks.machines import Setting, settings

WIDE = ["X86_V3", "X86_V4", "AVX512_ICL"]


def test_a_processor_with_everything_has_all_settings() -> None:
    found = {one.name: one.environment for one in settings("AVX512", WIDE, 2)}
    assert found == {
        "as it is": {"OMP_NUM_THREADS": "1"},
        "two threads": {"OMP_NUM_THREADS": "2"},
        "torch default": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "default"},
        "torch avx2": {"OMP_NUM_THREADS": "1", "ATEN_CPU_CAPABILITY": "avx2"},
        "numpy without AVX-512": {"OMP_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": "X86_V4 AVX512_ICL"},
        "numpy baseline": {"OMP_NUM_THREADS": "1", "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL"},
        "all of these": {
            "OMP_NUM_THREADS": "2",
            "ATEN_CPU_CAPABILITY": "default",
            "NPY_DISABLE_CPU_FEATURES": "X86_V3 X86_V4 AVX512_ICL",
        },
    }


@pytest.mark.parametrize(("capability", "features", "cores"), [("DEFAULT", [], 1), ("NEON", [], 1)])
def test_one_without_anything_to_turn_off_is_tried_as_it_is(capability: str, features: list[str], cores: int) -> None:
    assert settings(capability, features, cores) == [Setting("as it is")]


def test_what_numpy_is_told_to_do_without_it_has() -> None:
    assert all(name in machines._features() for one in machines._settings() for name in one.without)


def test_a_failure_anywhere_is_the_status(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    digests = iter([{"norms: a": "1", "sums: b": "2"}, {"norms: a": "1", "sums: b": "3"}])
    outcomes = iter([("5 passed", []), ("1 failed, 4 passed", ["FAILED tests/test_x.py::test_y"])])
    monkeypatch.setattr(machines, "_settings", lambda: [Setting("one"), Setting("two", threads=2)])
    monkeypatch.setattr(machines, "_digests", lambda _: next(digests))
    monkeypatch.setattr(machines, "_tests", lambda *_: next(outcomes))
    assert machines.main([]) == 1
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("one                    5 passed; 2 of 2 digests as in the first")
    assert lines[1].startswith("two                    1 failed, 4 passed; 1 of 2 digests")
    assert lines[2:] == ["    other last bits in sums: b", "    FAILED tests/test_x.py::test_y"]


def test_without_failures_the_status_is_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machines, "_settings", lambda: [Setting("one")])
    monkeypatch.setattr(machines, "_digests", lambda _: {"a: b": "1"})
    monkeypatch.setattr(machines, "_tests", lambda *_: ("5 passed", []))
    assert machines.main([]) == 0
