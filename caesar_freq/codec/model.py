"""The frequency model: everything phase 1 learns and a decoder needs, in integers."""

from __future__ import annotations

import copy
import hashlib
import zlib
from dataclasses import dataclass, fields
from functools import cached_property, lru_cache
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path

import numpy as np

from caesar_freq.entropy.context import N_FEATURES
from caesar_freq.entropy.network import HIDDEN
from caesar_freq.entropy.tables import N_BINS, Tables, build_tables
from caesar_freq.errors import ModelError

_MAGIC, _MAGIC_OF_GRIDS = b"CFM1", b"CFM2"
_ASSETS = resources.files("caesar_freq") / "assets"
_LAYOUT = {
    "w1": ("<i1", (N_FEATURES, HIDDEN)),
    "b1": ("<i4", (HIDDEN,)),
    "w2": ("<i1", (HIDDEN, HIDDEN)),
    "b2": ("<i4", (HIDDEN,)),
    "w3": ("<i1", (HIDDEN,)),
    "b3": ("<i4", (1,)),
    "pmf": ("<u4", (N_BINS, 4)),
    "centroid": ("<i1", (N_BINS // 4, 3)),
    "dead_zone": ("<i4", (8,)),
}
#: Of the dependent quantiser; a model may lack them.
_GRIDS = {"grid_pmf": ("<u4", (2, N_BINS, 4)), "grid_centroid": ("<i1", (N_BINS // 4, 3))}
#: Upper limits of the NRMSE that the entries of `dead_zone` are for; the last has none.
DEAD_ZONE_NRMSE = (1e-5, 5e-5, 2e-4, 1e-3, 3e-3, 1e-2, 3e-2)
#: Local features of a plane's coefficients, as rows of ``w1``.
_LOCAL_ROWS = [*range(15), 22, 23]
_PLANE_ROWS = list(range(15, 22))


@dataclass(frozen=True, eq=False)
class FrequencyModel:
    """Integer entropy network, pmf parameters and quantiser shapes.

    Attributes
    ----------
    w1, b1, w2, b2, w3, b3 : integer arrays
        Network 24-16-16-1, see `entropy.network.bins_reference`.
    pmf : uint32 [80, 4]
        ``zero, mix, fall1, fall2`` of every bin, see `entropy.tables`.
    centroid : int8 [20, 3]
        Reconstruction shift of magnitudes 1, 2, 3 (columns) in bins ``4*row .. 4*row + 3``, in
        1/64 of the quantisation step; negative moves towards zero.
    dead_zone : int32 [8]
        Magnitudes below ``dead_zone / 1000`` steps are quantised to 0, by the NRMSE aimed at
        (`DEAD_ZONE_NRMSE`). Only the encoder uses it.
    grid_pmf : uint32 [2, 80, 4], optional
        `pmf` of the levels of both grids of the dependent quantiser (`entropy.dependent`). A model
        without them does not use that quantiser.
    grid_centroid : int8 [20, 3], optional
        `centroid` of its values 1, 2 and 3, in 1/64 of its step.
    """

    w1: np.ndarray
    b1: np.ndarray
    w2: np.ndarray
    b2: np.ndarray
    w3: np.ndarray
    b3: np.ndarray
    pmf: np.ndarray
    centroid: np.ndarray
    dead_zone: np.ndarray
    grid_pmf: np.ndarray | None = None
    grid_centroid: np.ndarray | None = None

    # no annotation: where to compute is no part of the model
    device = None

    def on(self, device: str | None) -> FrequencyModel:
        """This model, at work on a torch device; None: on the processor, without torch."""
        other = copy.copy(self)
        object.__setattr__(other, "device", device)
        return other

    def __post_init__(self) -> None:
        if (self.grid_pmf is None) != (self.grid_centroid is None):
            raise ModelError("frequency model: only one of grid_pmf and grid_centroid is there")
        for name, (dtype, shape) in self._layout().items():
            value = np.asarray(getattr(self, name))
            if value.shape != shape:
                raise ModelError(
                    f"frequency model: {name} has shape {value.shape}, expected {shape}; "
                    "train it with train_freq_compressor of this version"
                )
            exact = value.astype(dtype)
            if not np.array_equal(exact, value):
                raise ModelError(f"frequency model: {name} does not hold integers of type {dtype}")
            object.__setattr__(self, name, exact)
        self._check_ranges()

    def _layout(self) -> dict:
        return _LAYOUT if self.grid_pmf is None else _LAYOUT | _GRIDS

    def _check_ranges(self) -> None:
        layers = (abs(self.w1.astype(int)).sum(0).max(), abs(self.w2.astype(int)).sum(0).max(),
                  abs(self.w3.astype(int)).sum())  # fmt: skip
        # in int64: the absolute value of the smallest int32 is no int32
        biases = (abs(b.astype(np.int64)).max() for b in (self.b1, self.b2, self.b3))
        if any(127 * int(w) + int(b) >= 1 << 24 for w, b in zip(layers, biases)):
            raise ModelError(
                "frequency model: sums of the network reach 2**24, not exact in float32"
            )
        limits = np.array([1 << 16, (1 << 16) + 1, 1 << 24, 1 << 24])
        for pmf in (self.pmf, *(() if self.grid_pmf is None else self.grid_pmf)):
            if not (np.all(pmf < limits) and np.all(pmf[:, [0, 2, 3]] > 0)):
                raise ModelError("frequency model: pmf parameters are out of range")

    def to_bytes(self) -> bytes:
        """Serialise: magic, deflated little-endian arrays (1 to 3 KB)."""
        magic = _MAGIC if self.grid_pmf is None else _MAGIC_OF_GRIDS
        return magic + zlib.compress(self._raw(), 9)

    def _raw(self) -> bytes:
        return b"".join(array.tobytes() for array in self.state_dict().values())

    @classmethod
    def from_bytes(cls, data: bytes, source: str = "frequency model") -> FrequencyModel:
        """Inverse of `to_bytes`.

        Raises
        ------
        ModelError
            If `data`, read from `source`, is not a frequency model of this version.
        """
        layout = _LAYOUT | _GRIDS if data.startswith(_MAGIC_OF_GRIDS) else _LAYOUT
        sizes = [int(np.dtype(t).itemsize * np.prod(s)) for t, s in layout.values()]
        try:
            if not data.startswith((_MAGIC, _MAGIC_OF_GRIDS)):
                raise ValueError
            inflate = zlib.decompressobj()
            raw = inflate.decompress(data[len(_MAGIC) :], sum(sizes) + 1)
            if len(raw) != sum(sizes) or not inflate.eof:
                raise ValueError
        except (ValueError, zlib.error) as error:
            raise ModelError(f"{source} is not a frequency model of this version") from error
        arrays, at = {}, 0
        for (name, (dtype, shape)), size in zip(layout.items(), sizes):
            arrays[name] = np.frombuffer(raw, dtype, offset=at, count=int(np.prod(shape)))
            arrays[name] = arrays[name].reshape(shape)
            at += size
        return cls(**arrays)

    def state_dict(self) -> dict[str, np.ndarray]:
        """The arrays by name (phase 1 stores them as tensors)."""
        arrays = {f.name: getattr(self, f.name) for f in fields(self)}
        return {name: array for name, array in arrays.items() if array is not None}

    @classmethod
    def from_state_dict(cls, state: dict, source: str = "checkpoint") -> FrequencyModel:
        """Model from arrays or tensors by name.

        Raises
        ------
        ModelError
            If names or shapes are those of another architecture.
        """
        if set(state) - set(_GRIDS) != set(_LAYOUT):
            odd = sorted(set(state) - set(_GRIDS) ^ set(_LAYOUT))
            raise ModelError(
                f"{source} is not a frequency compressor of this version (it differs in "
                f"{', '.join(map(str, odd[:4]))}); give a best_model.pth of train_freq_compressor"
            )
        return cls(**{name: np.asarray(array) for name, array in state.items()})

    @cached_property
    def fingerprint(self) -> str:
        """sha256 of the serialised arrays, hexadecimal."""
        return hashlib.sha256(self._raw()).hexdigest()

    @cached_property
    def tables(self) -> Tables:
        """rANS tables of `pmf`."""
        return build_tables(self.pmf)

    @cached_property
    def grid_tables(self) -> Tables:
        """rANS tables of `grid_pmf`, those of grid 0 first: 160 rows."""
        both = [build_tables(pmf) for pmf in self.grid_pmf]
        return Tables(*(np.concatenate([getattr(t, f.name) for t in both]) for f in fields(Tables)))

    @cached_property
    def network(self) -> tuple[np.ndarray, ...]:
        """Weights as `entropy.coder.run_block` takes them."""
        w1 = self.w1.astype(np.float32)
        rest = (self.b1, self.w2, self.b2, self.w3, self.b3)
        return (np.ascontiguousarray(w1[_LOCAL_ROWS]), np.ascontiguousarray(w1[_PLANE_ROWS]),
                *(np.ascontiguousarray(a.astype(np.float32)) for a in rest))  # fmt: skip

    def dead_zone_at(self, nrmse: float) -> float:
        """Dead-zone threshold in steps for an error of `nrmse`."""
        return float(self.dead_zone[np.searchsorted(DEAD_ZONE_NRMSE, nrmse)]) / 1000

    @classmethod
    @lru_cache(maxsize=1)
    def base(cls) -> FrequencyModel:
        """The model that ships with the package and that new files use."""
        return cls.from_bytes((_ASSETS / "base.cfm").read_bytes(), "the packaged base model")

    @classmethod
    @lru_cache
    def packaged(cls, fingerprint: str) -> FrequencyModel | None:
        """The base model, of this release or an earlier one, with this fingerprint.

        Earlier ones lie in ``assets/models``, so that every file ever written decodes for ever.

        Parameters
        ----------
        fingerprint : str
            Its first 16 hexadecimal digits, as streams have it, or more.
        """
        if cls.base().fingerprint.startswith(fingerprint):
            return cls.base()
        path = earlier_base(fingerprint)
        return cls.from_bytes(path.read_bytes(), str(path)) if path.is_file() else None


def earlier_base(fingerprint: str) -> Traversable:
    """Where the package keeps the base model of an earlier release."""
    return _ASSETS / "models" / f"{fingerprint[:16]}.cfm"


def load_frequency_model(source: str | Path | FrequencyModel) -> FrequencyModel:
    """The model `source`: "base", a path (.cfm, .pth) or a model already.

    Raises
    ------
    ModelError
        If the file is missing or holds something else.
    """
    if isinstance(source, FrequencyModel):
        return source
    if source == "base":
        return FrequencyModel.base()
    path = Path(source)
    if not path.is_file():
        raise ModelError(f"model {path} does not exist; give a .cfm or .pth file, or 'base'")
    data = path.read_bytes()
    if data.startswith((_MAGIC, _MAGIC_OF_GRIDS)):
        return FrequencyModel.from_bytes(data, str(path))
    return _from_torch_checkpoint(path)


def _from_torch_checkpoint(path: Path) -> FrequencyModel:
    try:
        import torch
    except ImportError as error:
        raise ModelError(
            f"reading {path} needs torch; install caesar-freq[train] or give a .cfm file"
        ) from error
    try:
        checkpoint = torch.load(path, map_location="cpu", weights_only=True)
        state = checkpoint.get("freq_compressor", checkpoint.get("model_state_dict"))
        state = state.get("model_state_dict", state)
        state = {name: tensor.numpy() for name, tensor in state.items()}
    except Exception as error:  # torch raises many kinds for files that are not checkpoints
        raise ModelError(
            f"{path} holds no frequency compressor; give a best_model.pth or combined_model.pth"
        ) from error
    return FrequencyModel.from_state_dict(state, str(path))
