"""The attack made for the spectral filter: as much bias as its own stopping rule lets pass."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from flwr_robustcomp.errors import require
from flwr_robustcomp.filters import Spectral
from flwr_robustcomp.simulations.attacks.base import Collusion, Seen
from flwr_robustcomp.simulations.attacks.unseen import believed_trim, gram_of, largest_scale

__all__ = ["UnderEigenvalue", "check_filter", "largest_quiet"]


@dataclass(frozen=True)
class UnderEigenvalue(Collusion):
    """Send x_j - c * mean with the largest c for which no direction of all m vectors stands out.

    Parameters
    ----------
    slack : float
        kappa of the server's `Spectral`, above 1.
    trim : int, optional
        Its budget t; by default what the strategy trims, or b where that is not known.

    Notes
    -----
    x_j is what the node's own honest training gave, which is the disguise: alike vectors have b times the scatter of one along
    their common direction, and honest noise adds to it nowhere else. Let p be the honest mean, of length one, and c the length
    of the bias. The m vectors then have about b (1 - b/m) c^2 more scatter along p than before. The filter lets
    lambda_1 = kappa lambda_{t+2} pass, so that c is about sqrt((kappa - 1) lambda_H / (b (1 - b/m))), and the mean moves by

        b c / m  =  sqrt((kappa - 1) b lambda_H / (m (m - b))),

    where `Spectral` guarantees sqrt(kappa b lambda_H / (m (m - b))): the guarantee is attained but for kappa - 1 in the place
    of kappa. The search looks at the eigenvalues of what the server will decode, compression included. The construction is this
    project's.
    """

    slack: float = 3.0
    trim: int | None = None

    name: ClassVar[str] = "under-eigenvalue"

    def __post_init__(self) -> None:
        check_filter(self.slack, self.trim)

    def craft(self, seen: Seen, state: Any) -> tuple[Tensor, Any]:
        """Return a row for each node, and the scale of this round, from which the next search starts."""
        direction = -seen.mean
        spectral = Spectral(trim=believed_trim(seen, self.trim), slack=self.slack)
        return largest_quiet(seen, lambda c: seen.own + c * direction, spectral, state)


def check_filter(slack: float, trim: int | None) -> None:
    """Raise unless these can be a spectral filter's."""
    Spectral(slack=slack)
    require(trim is None or trim >= 0, "trim", trim, "at least 0")


def largest_quiet(
    seen: Seen, make: Callable[[float], Tensor], spectral: Spectral, start: float | None, *, looked_at: slice = slice(None)
) -> tuple[Tensor, float]:
    """Return the crafted rows of the largest scale at which a spectral filter drops nobody, honest or not, and that scale.

    Parameters
    ----------
    seen : Seen
        The round.
    make : callable
        (scale) -> rows before the compressor, shape (b, d); honest ones at scale 0.
    spectral : Spectral
        The server's.
    start : float, optional
        Where to begin; by default, and for 0, 1.
    looked_at : slice
        The crafted rows that must not stand out; by default all.

    Notes
    -----
    Stricter than `largest_unseen`, which counts the colluders' losses alone. The leading eigenvalue need not grow with the
    scale everywhere; what is returned passes, and twice it did not. At scale 0, which is returned if nothing passes, the rows
    are those of honest training.
    """
    honest = seen.honest
    own = (honest @ honest.T).double().numpy()  # (h, h)
    if len(seen.honest) + len(range(*looked_at.indices(seen.byzantine))) < spectral.least(int(spectral.trim)):
        return make(0.0), 0.0  # too few for the filter, which will skip the round

    def passes(scale: float) -> bool:
        return spectral.is_quiet(gram_of(own, honest, seen.sent(make(scale))[looked_at]), int(spectral.trim))

    scale = largest_scale(passes, start)
    return make(scale), scale
