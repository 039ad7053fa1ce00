"""Who has called: the functions of other packages that are at work above ours.

Flower's wrappers of strategies and its mods do not say whom they wrap, and whoever is wrapped is not told. A wrong order would
end in an error about packed bits, or in no privacy at all. The stack is the only place that shows the order.
"""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterator

__all__ = ["callers"]


def callers(package: str, functions: Collection[str]) -> Iterator[tuple[str, object]]:
    """Yield the functions of a package that are at work above the function that calls this one, the nearest first.

    Parameters
    ----------
    package : str
        Import name; functions of its subpackages count.
    functions : collection of str
        Their names.

    Yields
    ------
    name : str
        Of the function.
    owner : object
        Its ``self``, None for a function that is no method.

    Examples
    --------
    >>> def inner():
    ...     return [name for name, _ in callers(__name__, {"outer"})]
    >>> def outer():
    ...     return inner()
    >>> outer(), inner()
    (['outer'], [])
    """
    frame = inspect.currentframe()
    while frame is not None:
        module = str(frame.f_globals.get("__name__", ""))
        if frame.f_code.co_name in functions and f"{module}.".startswith(f"{package}."):
            yield frame.f_code.co_name, frame.f_locals.get("self")
        frame = frame.f_back
