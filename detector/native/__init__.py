"""What is written in C, for speed: built where a compiler is there when the package is installed.

Everything here has a twin elsewhere that does the same without it. Each module keeps to the stable
ABI: one build serves every Python from 3.11 on.
"""

from __future__ import annotations

import importlib
from typing import Any


def extension(name: str) -> tuple[Any, str]:
    """An extension module of this package, and "", or None and why it is not there: not built, or
    built for another machine or another Python."""
    try:
        return importlib.import_module(f"detector.native.{name}"), ""
    except ImportError as error:
        if isinstance(error, ModuleNotFoundError):
            return None, f"{name} is not built: that takes a C compiler at installation"
        return None, f"cannot be loaded: {error}"
