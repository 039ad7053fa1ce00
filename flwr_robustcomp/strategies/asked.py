"""What a strategy can be asked beside its rounds, and the answers of one that has nothing to say."""

from __future__ import annotations

from flwr.serverapp.strategy import Strategy

from flwr_robustcomp.layout import Layout
from flwr_robustcomp.strategies.flower.builtin import check_nodes
from flwr_robustcomp.strategies.flower.inner import core_of
from flwr_robustcomp.theory import Adversary

__all__ = ["Asked"]


class Asked(Strategy):
    """Base of `CompressedStrategy` and of `Decompressed`: whoever runs one need not know which of them it is."""

    def check_nodes(self, nodes: int) -> None:
        """Raise `ConfigurationError` if a round of so many nodes cannot move the model, even if every one of them replies.

        It is asked before the first round. A strategy that needs more than one reply overrides it.
        """
        check_nodes(core_of(self), nodes)

    def draw_from(self, seed: int) -> None:
        """Draw from this seed whatever the strategy draws, if it draws anything: for runs that are to be repeated."""

    def trimmed_by_norm(self, nodes: int) -> tuple[int, float] | None:
        """Return how many of so many replies are set aside for their norm, and the order q of that norm.

        An adversary who stays under the threshold has to know both. None where no reply is set aside for its norm.
        """
        return None

    def outside_theory(self, layout: Layout, nodes: int, adversary: Adversary = "arbitrary") -> tuple[int, str] | None:
        """Return a logging level and the line that says why no theorem covers a run; None where one does, or none applies.

        Parameters
        ----------
        layout : Layout
            Of the model.
        nodes : int
            m, the nodes asked in the first round.
        adversary : {"restricted", "arbitrary"}
            What Byzantine nodes may do; a deployed server cannot know that they compress honestly.
        """
        return None
