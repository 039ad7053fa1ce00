"""Promises about the package's own source, held by reading it: what may import, make or read what, and where."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from functools import cache
from pathlib import Path

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
        "wire/shared.py",
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


@cache
def _calls(file: str) -> frozenset[str]:
    nodes = ast.walk(_tree(file))
    calls = (node.func for node in nodes if isinstance(node, ast.Call) and isinstance(node.func, ast.Name | ast.Attribute))
    return frozenset(map(ast.unparse, calls))


def _inside(name: str, packages: tuple[str, ...]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)


def test_the_files_are_found() -> None:
    assert {"flower.py", "randomness.py", "wire/packed.py", "compressors/sign.py", "simulations/app.py"} <= set(FILES)


def test_only_flower_py_touches_flowers_internals() -> None:
    for file in set(FILES) - {"flower.py"}:
        flower = [name for name in _imports(file) if _inside(name, ("flwr",))]
        assert [name for name in flower if not _inside(name, PUBLIC_FLOWER)] == [], file
        assert not any(part.startswith("_") for name in flower for part in name.split(".")), file


def test_flower_py_does_touch_them() -> None:
    assert any(_inside(name, ("flwr.supercore",)) for name in _imports("flower.py"))


def test_mathematics_does_not_import_flwr() -> None:
    for file in FILES:
        if file.startswith(FREE_OF_FLOWER):
            assert [name for name in _imports(file) if _inside(name, ("flwr",))] == [], file
            own = {name.split(".")[1] for name in _imports(file) if _inside(name, ("flwr_robustcomp",))}
            assert own <= {"compressors", "errors", "layout", "one_slot", "randomness", "spans", "theory"}, file


def test_only_randomness_py_makes_generators() -> None:
    for file in set(FILES) - {"randomness.py"}:
        assert [name for name in _imports(file) if _inside(name, RANDOM_MODULES)] == [], file
        for call in _calls(file):
            module, _, function = call.rpartition(".")
            assert not (module and _inside(module, RANDOM_MODULES)), f"{file}: {call}"
            assert function not in GENERATORS or module in ("rng", "self.rng"), f"{file}: {call}"


def test_randomness_py_does_make_them() -> None:
    assert {"np.random.Generator", "np.random.PCG64"} <= _calls("randomness.py")


def test_bytes_are_read_where_they_may_be() -> None:
    for file in FILES:
        for call in _calls(file):
            assert file in READS_BYTES.get(call, {file}), f"{file}: {call}"


def test_the_data_of_arrays_is_left_to_wire() -> None:
    for file in set(FILES) - TOUCHES_ARRAY_DATA:
        nodes = ast.walk(_tree(file))
        touched = {ast.unparse(node) for node in nodes if isinstance(node, ast.Attribute) and node.attr == "data"}
        assert touched <= {"data.data"}, file  # scikit-learn's images


def test_the_tables_above_are_not_stale() -> None:
    for call, files in READS_BYTES.items():
        for file in files:
            assert call in _calls(file), f"{file} no longer calls {call}"


def test_no_asserts() -> None:
    found = [(file, node.lineno) for file in FILES for node in ast.walk(_tree(file)) if isinstance(node, ast.Assert)]
    assert found == []


def _rank(name: str) -> tuple[int, str]:
    """Sort as ruff does: CONSTANTS, then Classes, then functions."""
    return (0 if name.isupper() else 1 if name[0].isupper() else 2), name


def test_all_is_sorted_and_complete() -> None:
    for file in FILES:
        tree = _tree(file)
        (names,) = [
            ast.literal_eval(node.value)
            for node in tree.body
            if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == ["__all__"]
        ]
        assert list(names) == sorted(set(names), key=_rank), file
        defined = {node.name for node in tree.body if isinstance(node, ast.ClassDef | ast.FunctionDef)}
        if file != "simulations/app.py":  # whose functions are commands and handlers, registered by decorators
            assert {name for name in defined if not name.startswith("_")} <= set(names), file


def test_files_are_short() -> None:
    lengths = {file: len((PACKAGE / file).read_text(encoding="utf-8").splitlines()) for file in FILES}
    assert {file: lines for file, lines in lengths.items() if lines > 300} == {}
