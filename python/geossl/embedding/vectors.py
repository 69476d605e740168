"""Vectors as Arrow keeps them, and in 8 bits: a quarter of the bytes, each vector with a scale of its own."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa

if TYPE_CHECKING:
    from numpy.typing import NDArray

LEVELS = 127
"""Largest magnitude of a stored value: -128 is not used, so that the scale is the same on both sides of 0."""


def quantize(x: NDArray[np.float32]) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Vectors as int8 and a scale: x is about q * scale, wrong by at most half a scale in each component.

    The scale is the vector's largest magnitude / 127, so that the error of a component is at most 1/254 of it.

    Args:
        x: finite vectors, float32 [N, D].

    Returns:
        int8 [N, D], -127 to 127, and float32 [N]; a vector of zeros has the scale 0.

    """
    scale = (np.abs(x).max(axis=1) / np.float32(LEVELS)).astype(np.float32)
    safe = np.where(scale > 0, scale, 1)[:, None]
    return np.rint(x / safe).clip(-LEVELS, LEVELS).astype(np.int8), scale


def dequantize(q: NDArray[np.int8], scale: NDArray[np.float32]) -> NDArray[np.float32]:
    """The vectors that `quantize` kept, float32 [N, D], of int8 [N, D] and float32 [N]."""
    return q.astype(np.float32) * scale[:, None]


def least_cosine(x: NDArray[np.float32], q: NDArray[np.int8]) -> float:
    """The least cosine between a vector and what was kept of it; vectors of zeros are left out. 1 if there are none.

    Args:
        x: vectors, float32 [N, D].
        q: what `quantize` made of them, int8 [N, D].

    """
    a, b = x.astype(np.float64), q.astype(np.float64)
    length = np.linalg.norm(a, axis=1) * np.linalg.norm(b, axis=1)
    some = length > 0
    cosines = np.einsum("nd,nd->n", a[some], b[some]) / length[some]
    return float(cosines.min(initial=1.0))


def vector_array(values: NDArray[Any]) -> pa.FixedSizeListArray:
    """FixedSizeList<T>[D] of vectors [N, D], without a copy."""
    kind = vector_type(pa.from_numpy_dtype(values.dtype), values.shape[1])
    return pa.FixedSizeListArray.from_arrays(pa.array(values.reshape(-1)), type=kind)


def vector_type(component: pa.DataType, dimensions: int) -> pa.DataType:
    """The type of a column of vectors."""
    return pa.list_(pa.field("element", component, nullable=False), dimensions)


def vectors_of(column: pa.Array) -> NDArray[Any]:
    """The vectors of such a column, [N, D] of its components' type, without a copy."""
    vectors: NDArray[Any] = column.flatten().to_numpy().reshape(len(column), column.type.list_size)
    return vectors
