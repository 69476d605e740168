"""Pickles read as data: the classes and functions that they name are noted down, never imported or called.

GEO-Bench 1 keeps what it knows of an image in pickles. Unpickling runs whatever a file asks for; this does not.
"""

from __future__ import annotations

import io
import pickle
from collections import OrderedDict
from datetime import date, datetime, timedelta, timezone
from typing import Any, Self

import numpy as np


class Record:
    """An object of a pickle: what made it, with which arguments, and its state."""

    origin = ""
    """The class or function, such as `geobench.label.Classification`."""
    args: tuple[Any, ...]
    """What it was made with."""
    state: Any
    """What it holds: a dict of attributes, in most cases."""

    def __new__(cls, *args: Any, **_: Any) -> Self:
        """Note the arguments down."""
        made = object.__new__(cls)
        made.args, made.state = args, {}
        return made

    def __setstate__(self, state: Any) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"a {self.origin}"

    @property
    def kind(self) -> str:
        """Name of the class or function, without its module."""
        return self.origin.rpartition(".")[2]

    def get(self, name: str) -> Any:
        """An attribute, or None."""
        return self.state.get(name) if isinstance(self.state, dict) else None


def read_pickle(data: bytes) -> Any:
    """What is in a pickle: plain containers, numbers, texts and dates as they are, every other object as a `Record`.

    Raises ValueError for what is not a pickle of such things.
    """
    try:
        return _Reader(io.BytesIO(data)).load()
    except Exception as e:  # the reader's own errors are of many kinds
        raise ValueError(f"not a pickle that can be read as data ({type(e).__name__})") from e


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        for harmless in (date, datetime, timedelta, timezone, OrderedDict):
            if (module, name) == (harmless.__module__, harmless.__name__):
                return harmless
        if module in {"numpy.core.multiarray", "numpy._core.multiarray"} and name == "scalar":
            return _scalar
        return type(name.rpartition(".")[2], (Record,), {"origin": f"{module}.{name}"})


def _scalar(dtype: Record, data: bytes) -> Any:
    """A number of numpy's. The dtype is that of a number, as bytes have no other."""
    return np.frombuffer(data, np.dtype(dtype.args[0]))[0].item()
