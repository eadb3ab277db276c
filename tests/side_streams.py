"""Arrays and strategies that the tests of the side streams share."""

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from caesar_freq.entropy.sparse import decode_sparse

# Bit patterns that float arithmetic or a careless cast would change: signalling and negative
# NaNs with payloads, both zeros, infinities, the smallest denormal, the largest finite value.
PATTERNS = {
    np.float32: [0x7FC00000, 0x7F800001, 0xFFC12345, 0x7FFFFFFF, 0x0, 0x80000000, 0x7F800000,
                 0xFF800000, 0x1, 0x7F7FFFFF],
    np.float64: [0x7FF8000000000000, 0x7FF0000000000001, 0xFFF8123456789ABC, 0x0, 1 << 63,
                 0x7FF0000000000000, 0xFFF0000000000000, 0x1, 0x7FEFFFFFFFFFFFFF],
}  # fmt: skip
SPECIAL_PATTERNS = {
    dtype: [p for p in patterns if not np.isfinite(np.array([p], bits).view(dtype)[0])]
    for (dtype, patterns), bits in zip(PATTERNS.items(), ("u4", "u8"), strict=True)
}
quick = settings(max_examples=60, deadline=None)
shapes = hnp.array_shapes(min_dims=1, max_dims=5, max_side=9)
cubes = hnp.array_shapes(min_dims=3, max_dims=3, max_side=12)
places = st.lists(st.tuples(st.integers(0, 10**6), st.integers(0, 99)), max_size=12)
dtypes = st.sampled_from([np.float32, np.float64])


def bits(array):
    return array.view(f"u{array.dtype.itemsize}")


def smooth(shape, dtype=np.float32, seed=0):
    x = np.random.default_rng(seed).standard_normal(shape)
    for axis in range(len(shape)):
        x = np.cumsum(x, axis=axis)
    return x.astype(dtype)


def with_patterns(shape, dtype, places, patterns):
    """Smooth array with bit patterns put at some flat places."""
    x = smooth(shape, dtype)
    for place, pattern in places:
        bits(x).ravel()[place % x.size] = patterns[pattern % len(patterns)]
    return x


def decoded_sparse(data, shape):
    """The whole volume of what `encode_sparse` coded."""
    return np.stack(list(decode_sparse(data, shape)))
