"""``CAESARFreq``: a compressor for whole data sets with the documented interface."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from caesar_freq.api import decode, encode
from caesar_freq.codec.candidates import SPATIAL
from caesar_freq.codec.effort import USUAL, effort_of
from caesar_freq.codec.model import load_frequency_model
from caesar_freq.codec.packing import Reader, varint
from caesar_freq.errors import ModelError

_SET_MAGIC = b"CFS1"


class CAESARFreq:
    """Compressor for a whole data set with the documented interface; error bound is NRMSE.

    Parameters
    ----------
    model_path : "base" or path
        Frequency model (``best_model.pth``, ``.cfm``) or ``combined_model.pth``, which also holds
        teacher and student.
    use_diffusion : bool
        Let blocks of frames use the 32-step teacher where that saves bytes.
    use_single_step : bool
        The same with the one-step student.
    device : {"cpu", "cuda", "auto"}
        Where teacher and student run.
    wavelet : {"haar", "cdf97"}
    use_dwt : bool
        Restrict the spatial transform to one DWT level of `wavelet` and 8x8 DCTs. By default the
        encoder chooses among all transforms by bytes.
    effort : {0, 1, 2, 3}
        See `encode`.
    """

    def __init__(
        self,
        model_path: str | Path = "base",
        use_diffusion: bool = False,
        use_single_step: bool = False,
        device: str = "cpu",
        wavelet: str = "haar",
        use_dwt: bool = False,
        effort: int = USUAL,
    ) -> None:
        effort_of(effort)
        self.model = load_frequency_model(model_path)
        self.effort = effort
        self.spatial = ((wavelet, 16),) if use_dwt else SPATIAL
        kinds = ["student"] * use_single_step + ["teacher"] * use_diffusion
        if kinds and model_path == "base":
            raise ModelError("the base model has no teacher or student; give a combined_model.pth")
        self.predictors = []
        if kinds:
            from caesar_freq.models.predictor import load_predictor  # torch only when needed

            self.predictors = [load_predictor(model_path, kind, device) for kind in kinds]

    def compress(self, data: np.ndarray | Iterable, eb: float = 1e-3) -> tuple[CompressedSet, int]:
        """Compress an array, or every array of a dataloader, to an NRMSE of at most `eb` each.

        Parameters
        ----------
        data : array or iterable of arrays, tensors or dicts with the key "input"
            1-D to 5-D, float32 or float64.

        Returns
        -------
        compressed : CompressedSet
        total_bytes : int
            ``len(bytes(compressed))``, all that `decompress` needs besides teacher and student.
        """
        single = isinstance(data, np.ndarray)
        arrays = [data] if single else [_as_array(item) for item in data]
        streams = [
            encode(a, "nrmse", eb, model=self.model, generator=self.predictors or None,
                   spatial=self.spatial, effort=self.effort)
            for a in arrays
        ]  # fmt: skip
        compressed = CompressedSet(streams, single)
        return compressed, len(bytes(compressed))

    def decompress(self, compressed: CompressedSet | bytes) -> np.ndarray | list[np.ndarray]:
        """Inverse of `compress`: an array if one was given, else the list of arrays."""
        if not isinstance(compressed, CompressedSet):
            compressed = CompressedSet.from_bytes(compressed)
        arrays = [
            decode(s, generator=self.predictors, model=self.model) for s in compressed.streams
        ]
        return arrays[0] if compressed.single else arrays


@dataclass(frozen=True)
class CompressedSet:
    """Streams of one `CAESARFreq.compress` call; ``bytes()`` of it is what to store."""

    streams: list[bytes]
    single: bool = False

    def __bytes__(self) -> bytes:
        if self.single:
            return self.streams[0]
        lengths = b"".join(varint(len(s)) for s in self.streams)
        return _SET_MAGIC + varint(len(self.streams)) + lengths + b"".join(self.streams)

    @classmethod
    def from_bytes(cls, data: bytes) -> CompressedSet:
        """Inverse of ``bytes()``.

        Raises
        ------
        CorruptStreamError
            If `data` is truncated.
        """
        if not data.startswith(_SET_MAGIC):
            return cls([bytes(data)], single=True)
        reader = Reader(data)
        reader.take(len(_SET_MAGIC))
        lengths = [reader.varint() for _ in range(reader.varint())]
        return cls([reader.take(length) for length in lengths])


def _as_array(item) -> np.ndarray:
    """An array from what a dataloader yields."""
    if isinstance(item, dict):
        item = item["input"]
    return np.asanyarray(item)  # with its mask, which `encode` refuses
