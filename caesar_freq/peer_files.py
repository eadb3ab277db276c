"""One file per compressed array for peers, so that their size is a file's size too.

Layout: magic, peer, bytes per value, shape; then for each volume ``[T, H, W]`` its mask of missing
values (the very bytes our own format stores; empty if none is missing), its layout, and
its streams. All lengths are variable-length integers of mostly one to three bytes. A piece (volume
or block of frames) of constant value is stored as that value, since SPERR cannot code it and the others
waste bytes.
"""

from __future__ import annotations

import numpy as np

from caesar_freq.codec.packing import Reader, varint
from caesar_freq.codec.special import encode_special, restore_special
from caesar_freq.errors import CorruptStreamError
from caesar_freq.metrics import to_five_axes, valid_values, variable_ranges
from caesar_freq.peer_search import LAYOUTS, Setting, pieces, prepare
from caesar_freq.peers import NAMES, peers

_MAGIC = b"PF1"


def encode(
    array: np.ndarray, name: str, settings: list[Setting | None], fill_value: float | None = None
) -> bytes:
    """Compress `array` with a peer at the settings of `peer_search.find_settings`.

    Parameters
    ----------
    array : ndarray of 1 to 5 axes, float32 or float64
    name : str
        A peer of `peers.NAMES`.
    settings : list of Setting or None
        One per variable.
    fill_value : float, optional
        Marks missing values beside NaN and infinities.
    """
    out = [_MAGIC, bytes([NAMES.index(name), array.dtype.itemsize, array.ndim])]
    out += [varint(n) for n in array.shape]
    original = to_five_axes(array)
    lossless = name == "zstd"
    filled = original if lossless else prepare(array, fill_value)
    ranges = variable_ranges(array, fill_value)
    for v, setting in enumerate(settings):
        for volume, source in zip(filled[v], original[v], strict=True):
            if not lossless:
                out.append(_mask(source, ~valid_values(source, fill_value)))
            out.append(_volume(volume, setting, ranges[v], lossless))
    return b"".join(out)


def decode(data: bytes) -> np.ndarray:
    """Inverse of `encode`: the array in its shape and dtype, missing values bit for bit.

    Raises
    ------
    CorruptStreamError
        If `data` is not such a file.
    """
    reader = Reader(data)
    if reader.take(len(_MAGIC)) != _MAGIC:
        raise CorruptStreamError("this is not a compressed file of a peer")
    name, dtype = NAMES[reader.byte()], np.dtype(f"f{reader.byte()}")
    shape = [reader.varint() for _ in range(reader.byte())]
    out = np.empty(shape, dtype)
    lossless = name == "zstd"
    # any setting decodes what another has written
    peer = peers(name, "lossless" if lossless else "nrmse")[0]
    for volumes in to_five_axes(out):
        for volume in volumes:
            mask = b"" if lossless else reader.take(reader.varint())
            for piece in pieces(volume, LAYOUTS[reader.byte()]):
                stream = reader.take(reader.varint())
                if stream:
                    piece[...] = peer.decompress(stream, piece.shape, dtype)
                else:
                    piece[...] = np.frombuffer(reader.take(dtype.itemsize), dtype)[0]
            if mask:
                volume[...] = restore_special(volume, mask)
    return out


def _mask(volume: np.ndarray, missing: np.ndarray) -> bytes:
    coded = encode_special(volume, missing) if missing.any() else b""
    return varint(len(coded)) + coded


def _volume(volume: np.ndarray, setting: Setting | None, spread: float, lossless: bool) -> bytes:
    layout = setting.layout if setting else LAYOUTS[0]
    out = [bytes([LAYOUTS.index(layout)])]
    for piece in pieces(volume, layout):
        if setting is None or not lossless and piece.min() == piece.max():
            out.append(varint(0) + piece.ravel()[:1].tobytes())
        else:
            stream = setting.peer.compress(piece, setting.knob, spread)
            out.append(varint(len(stream)) + stream)
    return b"".join(out)
