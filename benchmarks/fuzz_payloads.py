"""`python -m benchmarks.fuzz_payloads`: bytes that no honest client sent, against every decoder.

Each input is a payload of a small vector, changed: bits flipped, bytes overwritten, cut off, repeated or added, two payloads
spliced, a header from elsewhere, or plain noise. Reading it must end in a `WireError`, or in a payload that writes back to the
very same bytes, has a finite norm and decodes to finite numbers. Anything else is printed with what it takes to repeat it, and
the exit status is 1.
"""

from __future__ import annotations

import argparse
import math
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.payload_mutations import mutated
from flwr_robustcomp import wire
from flwr_robustcomp.compressors import COMPRESSORS, DTYPES, Compressor, Payload
from flwr_robustcomp.errors import WireError
from flwr_robustcomp.theory import CATALOGUE

__all__ = ["Finding", "Subject", "fuzz", "subjects"]

_SIZES = (1, 7, 23, 64, 150)


@dataclass(frozen=True)
class Subject:
    """A compressor on arrays of one shape and dtype, with a few honest payloads as bytes."""

    compressor: Compressor
    shape: tuple[int, ...]
    dtype: torch.dtype
    honest: tuple[bytes, ...]

    def judge(self, data: bytes) -> str | None:
        """Return what is wrong with how the decoder takes these bytes; None if nothing is."""
        array = wire.pack(Payload(self.shape, self.dtype, (), b""), COMPRESSORS["identity"]())
        array.stype, array.data = wire.stype_of(self.compressor), data
        try:
            payload = wire.read_packed(array, self.compressor, self.shape, self.dtype)
        except WireError:
            return None
        except BaseException as error:  # noqa: BLE001 (this is what the fuzzer looks for)
            return f"raised {type(error).__name__}: {error}"
        if wire.pack(payload, self.compressor).data != data:
            return "accepted bytes that it does not write"
        if not bool(torch.isfinite(self.compressor.decompress(payload)).all()):
            return "decoded to NaN or infinity"
        return None if math.isfinite(self.compressor.norm(payload)) else "has no finite norm"


@dataclass(frozen=True)
class Finding:
    """A fault: whose, of which bytes, and what."""

    subject: Subject
    data: bytes
    fault: str


def subjects(seed: int = 0) -> list[Subject]:
    """Return every configuration of the catalogue on small arrays of every dtype."""
    rng = np.random.default_rng(seed)
    found = []
    for entry in CATALOGUE.values():
        for compressor in entry.configurations:
            for dtype in DTYPES.values():
                for size in _SIZES:
                    shape = (size, 5) if entry.matrix else (size,)
                    try:
                        compressor.check_shape(shape)
                    except ValueError:
                        continue
                    xs = [torch.from_numpy(rng.standard_normal(shape) * scale).to(dtype) for scale in (0.0, 1e-6, 1.0, 100.0)]
                    xs += [x * torch.from_numpy(rng.random(shape) < 0.7).to(dtype) for x in xs[1:]]
                    arrays = [wire.pack(compressor.compress(x, rng), compressor) for x in xs]
                    own = wire.stype_of(compressor)  # some send vectors without zeros under another name
                    honest = tuple(array.data for array in arrays if array.stype == own)
                    found.append(Subject(compressor, shape, dtype, honest))
    return found


def fuzz(inputs: int, seed: int = 0) -> Iterator[Finding | None]:
    """Yield the outcome of each input in turn: None, or a finding."""
    rng = np.random.default_rng(seed)
    known = subjects(seed)
    for number in range(inputs):
        subject = known[number % len(known)]
        data = _mutated(subject, rng)
        fault = subject.judge(data)
        yield None if fault is None else Finding(subject, data, fault)


def _mutated(subject: Subject, rng: np.random.Generator) -> bytes:
    return mutated(subject.honest[rng.integers(len(subject.honest))], subject.honest, rng)


def main() -> None:
    """Fuzz as long as the command line asks for."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fuzz_payloads", description=__doc__.splitlines()[0])
    parser.add_argument("--inputs", type=int, default=1_000_000)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    started, faults = time.perf_counter(), 0
    for finding in fuzz(options.inputs, options.seed):
        if finding is not None:
            faults += 1
            print(f"{finding.fault}\n  {finding.subject.compressor} {finding.subject.shape} {finding.subject.dtype}")
            print(f"  {finding.data.hex()}")
    rate = options.inputs / (time.perf_counter() - started)
    decoders = len(subjects(options.seed))
    print(f"{options.inputs:,} inputs to {decoders} decoders, seed {options.seed}: {faults} faults, {rate:,.0f} a second")
    sys.exit(min(faults, 1))


if __name__ == "__main__":
    main()
