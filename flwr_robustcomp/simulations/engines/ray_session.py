"""Starting Ray, or joining it, and leaving nothing behind."""

from __future__ import annotations

import contextlib
import logging
import math
import os
import socket
from collections.abc import Iterator
from typing import Any

from flwr_robustcomp.errors import ConfigurationError

__all__ = ["gpu_share", "ray_session"]

_CONNECT_SECONDS = 3.0


@contextlib.contextmanager
def ray_session(address: str | None = None, *, num_cpus: int | None = None) -> Iterator[Any]:
    """Yield the ``ray`` module, connected; stop what was started here, and only that.

    Parameters
    ----------
    address : str, optional
        ``"HOST:PORT"`` or ``"ray://HOST:PORT"`` of an existing cluster, or ``"auto"``. By default Ray is started on this
        machine, unless the caller has initialised it already.
    num_cpus : int, optional
        Cores of a Ray that is started here; by default all.

    Raises
    ------
    ConfigurationError
        If Ray is not installed, or nothing answers at the address.
    """
    # Set before the import, which reads them: no usage statistics, no warning about a default that will change.
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    try:
        import ray  # noqa: PLC0415 (an extra, and seconds to import)
    except ImportError as error:
        raise ConfigurationError("Ray is not installed: pip install 'flwr-robustcomp[simulation]'") from error
    if ray.is_initialized():
        yield ray
        return
    quiet: dict[str, Any] = {"log_to_driver": False, "logging_level": logging.ERROR, "include_dashboard": None}
    try:
        if address is None:
            ray.init(address="local", num_cpus=num_cpus, **{**quiet, "include_dashboard": False})
        else:
            _must_answer(address)
            ray.init(address=address, **quiet)
    except (ConnectionError, TimeoutError, RuntimeError, ValueError) as error:
        if isinstance(error, ConfigurationError):
            raise
        first = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        raise ConfigurationError(f"ray_address must name a running Ray cluster, got {address!r}: {first}") from error
    try:
        yield ray
    finally:
        ray.shutdown()


def gpu_share(ray: Any, workers: int) -> float:
    """Return the part of a GPU that each of so many actors may ask for: 1 at most, 0 where no GPU is free.

    Ray hides GPUs from actors that ask for none. A part of a GPU never spans two, so that the share is one over the actors that
    the fullest GPU has to take, rounded down to Ray's four digits.
    """
    gpus = int(ray.available_resources().get("GPU", 0))
    return math.floor(1e4 / math.ceil(workers / gpus)) / 1e4 if gpus else 0.0


def _must_answer(address: str) -> None:
    """Raise in seconds where Ray's own retries would take a minute."""
    if address in ("auto", "local"):
        return
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        raise ConfigurationError(f'ray_address must be "HOST:PORT", "ray://HOST:PORT" or "auto", got {address!r}')
    try:
        socket.create_connection((host, int(port)), timeout=_CONNECT_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise ConfigurationError(f"ray_address must name a running Ray cluster, got {address!r}: {error}") from error
