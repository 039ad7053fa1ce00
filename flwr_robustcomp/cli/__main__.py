"""`python -m flwr_robustcomp.cli`: the command line where the package was not installed."""

from __future__ import annotations

from flwr_robustcomp.cli import main

__all__ = ["main"]

if __name__ == "__main__":
    main()
