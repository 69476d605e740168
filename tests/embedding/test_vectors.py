"""Vectors in 8 bits are as near as they say, and Arrow has them as they are."""

import numpy as np
import pyarrow as pa

from geossl.embedding.vectors import dequantize, least_cosine, quantize, vector_array, vectors_of


def vectors(n=200, dimensions=96):
    draw = np.random.default_rng(0)
    x = np.maximum(draw.normal(size=(n, dimensions)), 0) * 10.0 ** draw.uniform(-6, 6, (n, 1))
    x[3] = 0
    x[4] = -x[5]
    return x.astype(np.float32)


def test_the_error_is_half_a_scale():
    x = vectors()
    q, scale = quantize(x)
    assert (q.dtype, scale.dtype) == (np.int8, np.float32)
    assert np.abs(q.astype(int)).max(axis=1).tolist() == [0 if i == 3 else 127 for i in range(len(x))]
    np.testing.assert_allclose(scale, np.abs(x.astype(np.float64)).max(axis=1) / 127, rtol=1e-6)
    error = np.abs(q.astype(np.float64) * scale[:, None] - x).max(axis=1)
    assert (error <= scale * 0.5001).all()
    assert error.max() > 0
    np.testing.assert_array_equal(dequantize(q, scale), q.astype(np.float32) * scale[:, None])
    np.testing.assert_array_equal(q[4], -q[5])


def test_the_least_cosine_is_that_of_scipy():
    from scipy.spatial.distance import cosine

    x = vectors()
    q, scale = quantize(x)
    kept = dequantize(q, scale)
    some = [i for i in range(len(x)) if i != 3]
    wanted = min(1 - cosine(x[i].astype(np.float64), kept[i].astype(np.float64)) for i in some)
    np.testing.assert_allclose(least_cosine(x, q), wanted, rtol=1e-6)
    assert 0.999 < wanted < 1
    assert least_cosine(x[3:4], q[3:4]) == 1


def test_arrow_has_the_vectors():
    for values in (vectors(7, 5), quantize(vectors(7, 5))[0]):
        column = vector_array(values)
        assert column.type.list_size == 5
        assert column.type.value_type == pa.from_numpy_dtype(values.dtype)
        np.testing.assert_array_equal(vectors_of(column), values)
        np.testing.assert_array_equal(vectors_of(column.slice(2, 3)), values[2:5])
