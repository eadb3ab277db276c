"""Small valid streams of every mode, kind of chunk and coding, for `fuzz_mutations` to damage."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import google_crc32c
import numpy as np

import caesar_freq
from caesar_freq.codec.chunk import Chunk
from caesar_freq.codec.chunks import boxes, five_dimensional
from caesar_freq.codec.coders import PlainCoder
from caesar_freq.codec.header import MODES, Header
from caesar_freq.codec.layout import VOLUME
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.codec.search import step_index
from caesar_freq.codec.statistics import Statistics, variable_of
from caesar_freq.codec.zfp import block_axes
from caesar_freq.errors import InputError
from caesar_freq.transform.zfp import coefficients, samples

GOLDEN = Path(__file__).parents[1] / "tests" / "golden"


@dataclass
class Parts:
    """A stream taken apart at its checksums."""

    header: Header
    head: bytes  # the header's bytes before its checksum
    bodies: list[bytes]

    @classmethod
    def of(cls, data: bytes) -> Parts:
        header, at = Header.unpack(data)
        bodies, end = [], at
        for length, _ in header.chunks:
            bodies.append(data[end : end + length])
            end += length
        return cls(header, data[: at - 4], bodies)

    def packed(self, bodies: list[bytes]) -> bytes:
        """The stream with other chunks and right checksums."""
        table = [(len(body), google_crc32c.value(body)) for body in bodies]
        return replace(self.header, chunks=table).pack() + b"".join(bodies)


class Still:
    """A predictor that repeats keyframes: reaches the decoder of generated and restored frames."""

    kind, sha256, source = "student", "ab" * 32, "still.pth"
    n_frame, interpo_rate, keyframes = 16, 3, (0, 3, 6, 9, 12, 15)
    restores, spacings = True, (2, 3, 5)

    def predict(self, keyframes: np.ndarray, step: float) -> np.ndarray:
        """See `codec.coders.Predictor`."""
        missing = [t for t in range(self.n_frame) if t % self.interpo_rate]
        return np.stack([keyframes[:, t // 3] for t in missing], axis=1)

    def restore(self, frames: np.ndarray, noise: np.ndarray, step: float, targets=None):
        """See `codec.coders.Predictor`."""
        last = np.maximum.accumulate(np.where(np.isinf(noise[0]), 0, np.arange(len(noise[0]))))
        return 0.9 * frames[:, last if targets is None else last[targets]]


def arrays() -> dict[str, np.ndarray]:
    """Small arrays of every sort that takes its own way through the codec."""
    rng = np.random.default_rng(5)
    t, y, x = np.meshgrid(np.arange(18.0), np.arange(20.0), np.arange(30.0), indexing="ij")
    smooth = np.sin(0.3 * x + 0.1 * t) * np.cos(0.2 * y) + 0.01 * rng.standard_normal(x.shape)
    holes, clouds, kinds = smooth.copy(), smooth.copy(), smooth.copy()
    holes[4:6, 3:9, 2:8] = np.nan
    clouds[rng.random(x.shape) < 0.3] = np.nan
    kinds[0, 0, :3] = [np.inf, -np.inf, np.nan]
    spikes = smooth.copy()
    spikes[rng.random(x.shape) < 0.02] += 3
    wet = np.random.default_rng(6).random((18, 40, 50)) < 0.5
    made = {
        "smooth": smooth,
        "holes": holes,
        "clouds": clouds,
        "kinds": kinds,
        "spikes": spikes,
        "noise": rng.standard_normal((5, 17, 13)),
        "packed": np.rint(100 * smooth) / 16,
        "truncated": _truncated(smooth),
        # float64 rounded to 28 bits, which is no grid
        "rounded": np.ldexp(np.rint(np.ldexp(np.frexp(smooth**3)[0], 28)), np.frexp(smooth**3)[1]),
        "filled": np.where(x + y > 34, smooth, np.rint(100 * smooth) / 100),
        "radar": np.maximum(0, np.rint(40 * smooth)) * 0.1,
        "levels": rng.integers(0, 6, (7, 16, 9)) * 0.5,
        "constant": np.full((3, 9, 8), 7.0),
        "variables": np.stack([smooth[:4], 9 * smooth[:4] ** 2])[:, None],
        "line": smooth.ravel()[:700],
        "long": np.cumsum(rng.standard_normal((70, 9, 8)), axis=0),
        "positive": np.exp(4 * smooth[:6]),
        # a few patterns in time carry all: stored as the field's own modes
        "modes": _patterns((64, 40, 48)),
        # sections alike: all but the first are predicted from the one before
        "linked": np.stack([smooth + 0.05 * n * smooth[:, ::-1] for n in range(4)])[None],
        "series": np.cumsum(rng.standard_normal((6000, 1, 1)), axis=0),
        "stations": np.cumsum(rng.standard_normal((700, 1, 9)), axis=0),
        # values that come again: the bytes of a lossless body stay in their order
        "rain": rng.standard_normal(4500)[rng.integers(0, 4500, (18, 40, 50))] * wet,
    }
    many = {f"{name}32": array.astype(np.float32) for name, array in made.items()}
    return many | {
        f"{name}64": made[name] for name in ("smooth", "holes", "packed", "positive", "rounded")
    }


def _truncated(values: np.ndarray, exponent: int = -8) -> np.ndarray:
    """What ZFP makes of frames at a fixed tolerance, and a value that it does not."""
    axes = block_axes(values.shape, (0, 0, 0), 2)
    numbers = np.rint(coefficients(np.ldexp(values, -exponent), axes))
    out = np.ldexp(samples(numbers.astype(np.int64), axes).astype(np.float64), exponent - 4)
    out[3, 4, 5] += 0.123
    return out


def _patterns(shape: tuple[int, int, int]) -> np.ndarray:
    """Two standing patterns that swing at odd frequencies, and a little noise."""
    rng = np.random.default_rng(6)
    t = np.arange(shape[0])[:, None, None]
    patterns = rng.standard_normal((2, *shape[1:]))
    swings = np.sin(0.83 * t) * patterns[0] + np.cos(1.91 * t + 0.4) * patterns[1]
    return swings + 1e-4 * rng.standard_normal(shape)


#: Bounds by mode; modes that come later are tried with 1e-2.
_BOUNDS = {"psnr": (45.0,), "lossless": (0.0,), "abs": (1e-2,), "nrmse": (1e-2,),
           "rel": (2e-2, 1e-3)}  # fmt: skip


def corpus(names: Sequence[str] | None = None) -> dict[str, bytes]:
    """Valid streams by name: golden files and arrays (default: all) in every mode."""
    made = arrays()
    found = {path.stem: path.read_bytes() for path in sorted(GOLDEN.glob("*.cfq"))}
    for name in names or made:
        for mode in MODES:
            for bound in _BOUNDS.get(mode, (1e-2,)):
                try:
                    found[f"{name}-{mode}-{bound:g}"] = caesar_freq.encode(made[name], mode, bound)
                except InputError:  # a mode that does not take such data
                    continue
    smooth, holes = made["smooth32"], made["holes32"]
    for kind, cell in (("haar", 16), ("cdf97", 16), ("lot", 32), ("dct", 8), ("lot", 8)):
        found[f"{kind}{cell}"] = caesar_freq.encode(smooth, "nrmse", 1e-3, spatial=((kind, cell),))
    for strategy in ("restoration", "student", "both"):
        for mode, bound in (("nrmse", 1e-2), ("rel", 1e-2)):
            found[f"{strategy}-{mode}"] = caesar_freq.encode(
                smooth, mode, bound, generator=Still(), strategy=strategy
            )
    found["fine"] = caesar_freq.encode(made["smooth64"], "rel", 1e-9)
    for block in (1, 4, 128):
        found[f"blocks{block}"] = _in_blocks(made["long32"], block)
    other = replace(FrequencyModel.base(), b3=FrequencyModel.base().b3 + 100)
    found["joined-linked"] = _joined(made["linked32"], 2, other)
    found["linked-model"] = caesar_freq.encode(
        made["linked32"], "rel", 1e-2, model=other, embed_model=True
    )
    found["model"] = caesar_freq.encode(smooth, "rel", 1e-3, model=other, embed_model=True)
    found["apart"] = caesar_freq.encode(smooth, "rel", 1e-3, model=other, embed_model=False)
    found["metadata"] = caesar_freq.encode(
        np.where(np.isnan(holes), np.float32(-999), holes),
        "abs", 1e-2, fill_value=-999.0, metadata=b"some names" * 9,
    )  # fmt: skip
    return found


def _in_blocks(array: np.ndarray, block: int) -> bytes:
    """A stream with time blocks of so many frames, whether that is best or not."""
    head = Header(array.shape, array.dtype, "nrmse", 1e-2, False, [])
    chunk = Chunk(array, next(boxes(five_dimensional(array.shape))), None)
    variable = replace(
        variable_of([Statistics.of(chunk)]), step_index=step_index(0.02), time_block=block
    )
    model = FrequencyModel.base()
    coder = PlainCoder(chunk.normalised(variable, False), variable, model)
    written = chunk.write_coded(coder.code(variable.step, 0.5), VOLUME, head, variable)
    head.variables, head.fingerprint = [variable], model.fingerprint
    return Parts(head, b"", []).packed([written.body])


def _joined(array: np.ndarray, sections: int, model: FrequencyModel) -> bytes:
    """A stream of ``[1, S, T, H, W]`` joined of parts of so many sections, under a stored model."""
    streams = [
        caesar_freq.encode(array[:, s : s + sections], "nrmse", 1e-2, model=model, embed_model=True)
        for s in range(0, array.shape[1], sections)
    ]
    parts = [Parts.of(stream) for stream in streams]
    head = replace(
        parts[0].header, shape=array.shape, linked=any(part.header.linked for part in parts),
        variables=[part.header.variables[0] for part in parts],
        runs=[len(part.bodies) for part in parts],
    )  # fmt: skip
    return Parts(head, b"", []).packed([body for part in parts for body in part.bodies])
