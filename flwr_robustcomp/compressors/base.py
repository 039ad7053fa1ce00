"""The interface of a delta-approximate compressor (Definition 4 of the paper)."""

from __future__ import annotations

import math
import struct
from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import ClassVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from flwr_robustcomp.compressors.columns import Columns
from flwr_robustcomp.compressors.dots import dense_dots, widened
from flwr_robustcomp.compressors.form import Form, Scalars
from flwr_robustcomp.compressors.norms import vector_norm
from flwr_robustcomp.compressors.payload import DTYPES, Payload, working_dtype
from flwr_robustcomp.compressors.products import dense_products
from flwr_robustcomp.compressors.sign_counts import SignCounts, dense_counts
from flwr_robustcomp.compressors.values import as_numpy, is_finite
from flwr_robustcomp.errors import require

__all__ = ["Compressor", "Scalars"]

_FLOATING = frozenset(DTYPES.values())
_FLOATING_NAMES = f"one of {', '.join(DTYPES)}"


class Compressor(Form, ABC):
    """A delta-approximate compressor Q with its packed form; immutable, and free of any state.

    A subclass is a frozen dataclass whose fields are its parameters. It says what its parameters guarantee (`delta`), how a
    vector is packed (`encode`, `decode`) and what makes bytes a member of its image (`check`); framing, validation and the
    dense fall-backs for `norm` and `accumulate` stand here once. Few compressors see more than a flat vector; those override
    the methods that take a shape (`delta_of`, `body_size_of`, `check_shape`, `encode_array`).

    Attributes
    ----------
    name : str
        The name in the registry, in scenarios and on the wire.
    version : int
        Version of the packed form; any change of a byte raises it.
    header : str
        `struct` format, little-endian, of `Payload.scalars`.
    embeds_norm : bool
        The paper's C_norm (True) or C_normless (False), section 3.
    randomized : bool
        Whether `compress` needs a generator.
    projects : bool
        Whether Q(x) is an orthogonal projection of x, up to the rounding of entries: <x, Q(x)> = ||Q(x)||^2. Then
        ||Q(x) - x||^2 = ||x||^2 - ||Q(x)||^2, and delta can be measured without unpacking anything.
    keeps_zeros : bool
        Whether Q(x) is zero wherever x is, for every x and every draw.
    flat : bool
        Whether all entries of Q(x) have one magnitude: then every choice of coordinates shows the same share of its length.
    wants_matrices : bool
        Whether it is of use on arrays of two dimensions and more only, one by one.
    sparse : bool
        Whether most entries of Q(x) are zero, whatever x is: then a rule by coordinates has nothing to go by.
    exact_size : bool
        Whether every body has exactly `body_size` bytes; where an entropy coder decides, that is only the largest size.
    exact_decode : bool
        Whether `decode` gives the same bits on every processor, BLAS and number of threads: only elementwise arithmetic, or
        sums that are exact in any order.

    Examples
    --------
    >>> import torch
    >>> from flwr_robustcomp import TopK
    >>> Q = TopK(k=2, coding="fixed")
    >>> Q.delta(100), Q.encoded_size(100, torch.float32)
    (0.02, 15)
    """

    name: ClassVar[str]
    version: ClassVar[int] = 1
    header: ClassVar[str] = "<"
    embeds_norm: ClassVar[bool] = True
    randomized: ClassVar[bool] = False
    projects: ClassVar[bool] = False
    keeps_zeros: ClassVar[bool] = False
    flat: ClassVar[bool] = False
    wants_matrices: ClassVar[bool] = False
    sparse: ClassVar[bool] = False
    exact_size: bool = True
    exact_decode: bool = False

    def __init_subclass__(cls, **options: object) -> None:
        super().__init_subclass__(**options)
        renamed = [name for name in ("_encode", "_decode", "_encode_array") if name in vars(cls)]
        require(not renamed, f"methods of {cls.__name__}", ", ".join(renamed), "named encode, decode and encode_array")

    # -- mathematics ------------------------------------------------------------------------------------------------------

    @property
    def unbiased(self) -> bool:
        """Whether E[Q(x)] = x for every x."""
        return False

    @property
    def pointwise(self) -> bool:
        """Whether `delta` holds for every draw; if not, it holds in expectation over the compressor's own randomness."""
        return not self.randomized

    @abstractmethod
    def delta(self, d: int) -> float | None:
        """Return the guaranteed delta of Definition 4 for vectors of d coordinates.

        Parameters
        ----------
        d : int
            Number of coordinates, at least 1.

        Returns
        -------
        float or None
            A number in (0, 1], in expectation for randomized compressors; None where no bound holds for every x.
        """

    def delta_of(self, shape: Sequence[int]) -> float | None:
        """Return `delta` for arrays of a shape."""
        return self.delta(math.prod(shape))

    def measured_delta(self, x: Tensor, rng: np.random.Generator | None = None) -> float:
        """Return 1 - ||Q(x) - x||^2 / ||x||^2 for one vector and, if Q is randomized, one draw.

        Returns
        -------
        float
            At most 1; negative where Q made things worse; 1 for the zero vector when Q(0) = 0.
        """
        work = working_dtype(x.dtype)
        dense = x.to(work)
        error = vector_norm(self.decompress(self.compress(x, rng)).to(work) - dense, 2) ** 2
        scale = vector_norm(dense, 2) ** 2
        if scale == 0.0:
            return 1.0 if error == 0.0 else -math.inf
        return 1.0 - error / scale

    # -- packing ----------------------------------------------------------------------------------------------------------

    def compress(self, x: Tensor, rng: np.random.Generator | None = None) -> Payload:
        """Compress a vector.

        Parameters
        ----------
        x : Tensor, any shape, floating
            The update; at least one entry, all finite.
        rng : numpy.random.Generator, optional
            Needed by randomized compressors, ignored by the others.

        Returns
        -------
        Payload
            Of x's shape and dtype.

        Raises
        ------
        ValueError
            If x is empty, not one of float16, bfloat16, float32 and float64, not finite, or too short for the parameters.
        """
        require(x.dtype in _FLOATING, "dtype of x", x.dtype, _FLOATING_NAMES)
        require(x.numel() > 0, "number of entries of x", x.numel(), "at least 1")
        require(rng is not None or not self.randomized, "rng", rng, "a numpy Generator for a randomized compressor")
        self.check_shape(x.shape)
        array = x.detach().cpu().contiguous()
        require(is_finite(array.reshape(-1)), "x", "NaN or inf", "finite")
        scalars, body = self.encode_array(array, rng)
        return Payload(tuple(x.shape), x.dtype, scalars, body)

    def decompress(self, payload: Payload) -> Tensor:
        """Return Q(x), of the payload's shape and dtype."""
        return self.decode(payload).reshape(payload.shape)

    def compress_rows(self, x: Tensor, rngs: Sequence[np.random.Generator | None]) -> list[Payload]:
        """Compress k tensors, stacked along a new first dimension, shape (k, ...); the payloads of k calls of `compress`."""
        return [self.compress(row, rng) for row, rng in zip(x, rngs, strict=True)]

    def decompress_rows(self, payloads: Sequence[Payload]) -> Tensor:
        """Return k decompressed tensors of one size as rows, shape (k, d)."""
        return torch.stack([self.decode(payload) for payload in payloads])

    def encoded_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the number of bytes of a payload for d coordinates, header included; the largest where sizes vary."""
        return struct.calcsize(self.header) + self.body_size(d, dtype)

    @abstractmethod
    def body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the number of bytes of ``Payload.body``, known before anything is decoded; the largest where sizes vary."""

    def largest_body_size(self, d: int, dtype: torch.dtype) -> int:
        """Return the most bytes of ``Payload.body`` for d coordinates or fewer."""
        return self.body_size(d, dtype)

    def body_size_of(self, shape: Sequence[int], dtype: torch.dtype) -> int:
        """Return `body_size` for arrays of a shape."""
        return self.body_size(math.prod(shape), dtype)

    def check_shape(self, shape: Sequence[int]) -> None:
        """Raise ValueError, naming the parameter, if the parameters do not fit arrays of a shape."""
        self.check_size(math.prod(shape))

    def check_size(self, d: int) -> None:
        """Raise ValueError, naming the parameter, if vectors of d coordinates are too short for the parameters."""

    @abstractmethod
    def check(self, payload: Payload) -> None:
        """Raise `WireError` unless the payload is the canonical encoding of a member of the image of Q.

        Called on foreign payloads of the right length. Whatever passes is Q(x) for some x and, where Q draws, some draws.

        So a compressor that draws nothing makes an arbitrary sender (section 5) no stronger than a restricted one (section 4):
        the bytes are those of an honest compressor. One that draws does not: a sender of its own bytes chooses the draws too,
        and can send what an honest one sends with probability zero. Nor does `check` see the norm that is reported. Both
        are bounded by what replies are sorted by, `strategies.sort_norm.sort_norm`.
        """

    def encode_array(self, array: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack a finite, contiguous tensor on the CPU, of any shape."""
        return self.encode(array.reshape(-1), rng)

    @abstractmethod
    def encode(self, flat: Tensor, rng: np.random.Generator | None) -> tuple[Scalars, bytes]:
        """Pack a finite vector on the CPU, shape (d,), into the scalars of the header and the body."""

    @abstractmethod
    def decode(self, payload: Payload) -> Tensor:
        """Unpack to shape (d,), in the payload's dtype; the inverse of `encode` on what `check` lets pass."""

    # -- what the server asks of packed vectors ---------------------------------------------------------------------------

    def norm(self, payload: Payload, order: float = 2) -> float:
        """Return ||Q(x)||_q of a packed vector, q in {1, 2, inf}."""
        return vector_norm(self.decompress(payload), order)

    def norm_bounds(self, payload: Payload, order: float = 2) -> tuple[float, float]:
        """Return the smallest and largest ||x||_q that any x with this Q(x) can have.

        A norm that a client reports (Algorithm 1) is believed only inside these bounds.
        """
        return 0.0, math.inf

    def sign_counts(self, payload: Payload) -> SignCounts:
        """Return how many entries of Q(x) are negative, zero and positive; by default of the decoded vector."""
        return dense_counts(self.decode(payload))

    def accumulate(self, out: Tensor, payloads: Sequence[Payload], weights: Sequence[float]) -> None:
        """Add sum_i weights[i] * Q_i to ``out`` in place.

        Parameters
        ----------
        out : Tensor, shape (d,), float32 or float64, contiguous, on the CPU
            The accumulator.
        payloads : sequence of Payload, m of them
            All of d coordinates.
        weights : sequence of float, m of them
            Their weights.
        """
        for payload, weight in zip(payloads, weights, strict=True):
            out.add_(self.decode(payload).to(out.dtype), alpha=weight)

    def inner_products(
        self, payloads: Sequence[Payload], chosen: npt.NDArray[np.intp] | None = None
    ) -> npt.NDArray[np.float64]:
        """Return the inner products <Q_i, Q_j> of packed vectors.

        Parameters
        ----------
        payloads : sequence of Payload, m of them
            All of d coordinates.
        chosen : numpy.ndarray of int, shape (s,), optional
            A sketch: only these runs of 64 coordinates count, out of ceil(d / 64), and the result is scaled up by their
            share. Drawn uniformly without replacement, it is unbiased.

        Returns
        -------
        numpy.ndarray, shape (m, m), float64
            Symmetric.

        Notes
        -----
        This dense fall-back decodes blocks of rows; see `products.dense_products`.
        """
        return dense_products(self.decompress_rows, payloads, chosen)

    def columns(self, payloads: Sequence[Payload]) -> Columns:
        """Return packed vectors for a rule that goes by coordinates; all payloads are of one model and round."""
        return Columns(payloads, payloads[0].size, self.decompress_rows)

    def dot(self, payloads: Sequence[Payload], x: Tensor) -> npt.NDArray[np.float64]:
        """Return the inner products <Q_i, x> of m packed vectors with a dense one, shape (d,), as float64 of shape (m,).

        Equal to ``decompress(payload) @ x`` in double precision within 1e-6 ||Q_i|| ||x||, or 4 eps ||Q_i|| ||x|| for half
        types, whose rounding of Q(x) a packed form need not share. This fall-back decodes one payload at a time.
        """
        return dense_dots((as_numpy(self.decode(payload)) for payload in payloads), widened(x))
