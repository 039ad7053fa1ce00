"""Promises about the package's own source, held by reading it: what may import, make or read what, and where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest

import flwr_robustcomp

PACKAGE = Path(flwr_robustcomp.__file__).parent
FILES = sorted(path.relative_to(PACKAGE).as_posix() for path in PACKAGE.rglob("*.py"))

PUBLIC_FLOWER = ("flwr.app", "flwr.clientapp", "flwr.serverapp")
FREE_OF_FLOWER = ("compressors/", "theory/", "layout.py", "spans.py", "randomness.py", "errors.py")

RANDOM_MODULES = ("random", "np.random", "numpy.random", "torch.random", "secrets")
GENERATORS = {
    *("Generator", "RandomState", "SeedSequence", "default_rng"),
    *("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64"),
    *("manual_seed", "seed", "fork_rng", "initial_seed"),
    *("rand", "randn", "randint", "randperm", "rand_like", "randn_like", "bernoulli", "multinomial", "urandom"),
    *("normal_", "uniform_", "bernoulli_", "exponential_", "random_"),
}

_FOLDER = "simulations/problems/folder.py"
"""Reads files that the user names, which are no peer's; never pickles."""

READS_BYTES = {
    "struct.unpack": set(),
    "struct.unpack_from": {"wire/packed.py", "wire/dense.py", "compressors/nested.py"},
    "struct.iter_unpack": set(),
    "int.from_bytes": set(),
    "ast.literal_eval": {"wire/dense.py"},
    # Foreign bodies are checked by `wire` before a compressor looks at them; Ray's parcels are this process's own bytes.
    "np.frombuffer": {
        *("wire/dense.py", "simulations/engines/parcel.py", _FOLDER),
        *("compressors/bits.py", "compressors/entropy.py", "compressors/ternary.py"),
        "compressors/bucket_products.py",
    },
    "torch.frombuffer": {"compressors/values.py"},
    "np.load": {_FOLDER},
    "torch.load": set(),
    "pickle.load": set(),
    "pickle.loads": {"simulations/engines/parcel.py", "simulations/engines/ray_grid.py"},
    "eval": set(),
    "exec": set(),
}
"""Which files may call what turns bytes into values."""

TOUCHES_ARRAY_DATA = {
    *(
        "wire/packed.py",
        "wire/dense.py",
        "downlink/records.py",
        "strategies/replies/reply_size.py",
        "simulations/engines/parcel.py",
    ),
    "checkpoints/records.py",
}
"""Besides `wire`: screening counts bytes, Ray's parcels carry them, and checkpoints keep them."""


@cache
def _tree(file: str) -> ast.Module:
    return ast.parse((PACKAGE / file).read_text(encoding="utf-8"))


def _imports(file: str) -> Iterator[str]:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative import"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _calls(file: str) -> Iterator[str]:
    for node in ast.walk(_tree(file)):
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute):
            yield ast.unparse(node.func)


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_files_are_found() -> None:
    assert {"flower.py", "randomness.py", "wire/packed.py", "compressors/sign.py", "simulations/app.py"} <= set(FILES)


@pytest.mark.parametrize("file", [file for file in FILES if file != "flower.py"])
def test_only_flower_py_touches_flowers_internals(file: str) -> None:
    flower = [name for name in _imports(file) if _inside(name, ("flwr",))]
    assert [name for name in flower if not _inside(name, PUBLIC_FLOWER)] == []
    assert not any(part.startswith("_") for name in flower for part in name.split("."))


def test_flower_py_does_touch_them() -> None:
    assert any(_inside(name, ("flwr.supercore",)) for name in _imports("flower.py"))


@pytest.mark.parametrize("file", [file for file in FILES if file.startswith(FREE_OF_FLOWER)])
def test_mathematics_does_not_import_flwr(file: str) -> None:
    assert [name for name in _imports(file) if _inside(name, ("flwr",))] == []
    own = {name.split(".")[1] for name in _imports(file) if _inside(name, ("flwr_robustcomp",))}
    assert own <= {"compressors", "errors", "layout", "one_slot", "randomness", "spans", "theory"}


@pytest.mark.parametrize("file", [file for file in FILES if file != "randomness.py"])
def test_only_randomness_py_makes_generators(file: str) -> None:
    assert [name for name in _imports(file) if _inside(name, RANDOM_MODULES)] == []
    for call in _calls(file):
        module, _, function = call.rpartition(".")
        assert not (module and _inside(module, RANDOM_MODULES)), f"{file}: {call}"
        assert function not in GENERATORS or module in ("rng", "self.rng"), f"{file}: {call}"


def test_randomness_py_does_make_them() -> None:
    assert {"np.random.Generator", "np.random.PCG64"} <= set(_calls("randomness.py"))


@pytest.mark.parametrize("file", FILES)
def test_bytes_are_read_where_they_may_be(file: str) -> None:
    for call in _calls(file):
        assert file in READS_BYTES.get(call, {file}), f"{file}: {call}"


@pytest.mark.parametrize("file", [file for file in FILES if file not in TOUCHES_ARRAY_DATA])
def test_the_data_of_arrays_is_left_to_wire(file: str) -> None:
    touched = {ast.unparse(node) for node in ast.walk(_tree(file)) if isinstance(node, ast.Attribute) and node.attr == "data"}
    assert touched <= {"data.data"}  # scikit-learn's images


def test_the_tables_above_are_not_stale() -> None:
    for call, files in READS_BYTES.items():
        for file in files:
            assert call in set(_calls(file)), f"{file} no longer calls {call}"


@pytest.mark.parametrize("file", FILES)
def test_no_asserts(file: str) -> None:
    lines = [node.lineno for node in ast.walk(_tree(file)) if isinstance(node, ast.Assert)]
    assert lines == []


def _rank(name: str) -> tuple[int, str]:
    """Sort as ruff does: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


@pytest.mark.parametrize("file", FILES)
def test_all_is_sorted_and_complete(file: str) -> None:
    tree = _tree(file)
    (names,) = [
        ast.literal_eval(node.value)
        for node in tree.body
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
    ]
    assert list(names) == sorted(set(names), key=_rank)
    defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
    if file != "simulations/app.py":  # whose functions are commands and handlers, registered by decorators
        assert {name for name in defined if not name.startswith("_")} <= set(names)


@pytest.mark.parametrize("file", FILES)
def test_files_are_short(file: str) -> None:
    assert len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) <= 300
