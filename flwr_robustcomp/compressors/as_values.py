"""What a compressor has from another that all of its values go through."""

from __future__ import annotations

from flwr_robustcomp.compressors.base import Compressor

__all__ = ["AsValues"]


class AsValues(Compressor):
    """A compressor whose guarantee is that of ``values``, on fewer entries.

    Attributes
    ----------
    values : Compressor
        The other.
    """

    values: Compressor

    @property
    def embeds_norm(self) -> bool:  # type: ignore[override]
        """Whether ``values`` does."""
        return self.values.embeds_norm

    @property
    def randomized(self) -> bool:  # type: ignore[override]
        """Whether ``values`` draws."""
        return self.values.randomized

    @property
    def exact_decode(self) -> bool:  # type: ignore[override]
        """Whether that of ``values`` is."""
        return self.values.exact_decode

    @property
    def projects(self) -> bool:  # type: ignore[override]
        """Whether ``values`` projects: <x, Q(x)> is that of the non-zero entries."""
        return self.values.projects

    @property
    def unbiased(self) -> bool:
        """Whether ``values`` is."""
        return self.values.unbiased

    @property
    def pointwise(self) -> bool:
        """Whether the delta of ``values`` is."""
        return self.values.pointwise

    def delta(self, d: int) -> float | None:
        """Return that of ``values``, which fewer entries make no smaller."""
        return self.values.delta(d)

    def check_size(self, d: int) -> None:
        """Ask what ``values`` does."""
        self.values.check_size(d)
