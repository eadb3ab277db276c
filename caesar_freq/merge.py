"""Merge the checkpoints of the three phases into one file.

``python -m caesar_freq.merge --freq_compressor_path A --diffusion_path B --distillation_path C``

writes ``combined_model.pth`` (keys ``freq_compressor``, ``diffusion``, ``single_step_diffusion``,
``config``), ``model.safetensors`` with the same tensors and ``model_card.md``.
"""

from __future__ import annotations

import argparse
import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import torch
from safetensors.torch import save_file

from caesar_freq import __version__
from caesar_freq.atomic import atomic_path, write_bytes
from caesar_freq.codec.model import FrequencyModel
from caesar_freq.errors import ModelError, run_main
from caesar_freq.models.predictor import KINDS, load_checkpoint, read_part

_FREQUENCY = ("freq_compressor", "model_state_dict", "caesar-freq/frequency/1")


def load_part(path: Path, weights: str, layout_format: str, phase: str) -> dict:
    """Checkpoint of one phase.

    Raises
    ------
    ModelError
        If the file is missing or belongs to another phase or version.
    """
    part = load_checkpoint(path)
    if part.get("format") != layout_format or weights not in part:
        raise ModelError(
            f"{path} has format {part.get('format')!r}, not {layout_format!r}; "
            f"give the best checkpoint of {phase}"
        )
    return part


def _entropy_model(part: dict, path: Path) -> FrequencyModel:
    """The frequency part of a checkpoint as the codec has it; `path` is named in errors."""
    state = {k: v.numpy() for k, v in part["model_state_dict"].items()}
    return FrequencyModel.from_state_dict(state, str(path))


def merge(frequency: Path, diffusion: Path, distillation: Path) -> dict:
    """Combined checkpoint of three files that belong together.

    Raises
    ------
    ModelError
        If a file is of another kind, or they were not trained on each other.
    """
    parts = {_FREQUENCY[0]: load_part(frequency, *_FREQUENCY[1:], "phase 1")}
    fingerprint = _entropy_model(parts[_FREQUENCY[0]], frequency).fingerprint
    layouts = {}
    for path, kind, phase in (
        (diffusion, "teacher", "phase 2"),
        (distillation, "student", "phase 3"),
    ):
        section, weights, layout_format = KINDS[kind]
        part = parts[section] = load_part(path, weights, layout_format, phase)
        layouts[path] = read_part(part, kind, path)[2]
        if part["config"].get("frequency_model") != fingerprint:
            raise ModelError(
                f"{path} was trained on another frequency compressor than {frequency}; "
                f"run {phase} again with this one"
            )
    if layouts[diffusion] != layouts[distillation]:
        raise ModelError(
            f"{diffusion} and {distillation} have different frames or latents: "
            f"{layouts[diffusion]} and {layouts[distillation]}; run phase 3 again"
        )
    config = {name: part["config"] for name, part in parts.items()}
    return {**parts, "config": config, "format": "caesar-freq/combined/1"}


def flat_tensors(combined: dict) -> dict[str, torch.Tensor]:
    """All tensors of a combined checkpoint under dotted names."""
    out = {}
    for section, part in combined.items():
        if section in ("config", "format"):
            continue
        for group, tensors in part.items():
            if group not in ("config", "format"):
                out.update({f"{section}.{group}.{k}": v.contiguous() for k, v in tensors.items()})
    return out


def model_card(combined: dict, combined_path: Path, inputs: dict[str, Path],
               manifests: Sequence[Path]) -> str:  # fmt: skip
    """Model card, Markdown: what it is, what it was trained on, how it was selected."""
    lines = [
        "# CAESAR-Freq model", "",
        f"Made by caesar-freq {__version__}. `{combined_path.name}` sha256 "
        f"`{_sha256(combined_path)}`.", "",
        "| part | weights | bytes of its checkpoint | sha256 |", "|---|---|---|---|",
    ]  # fmt: skip
    for section, path in inputs.items():
        tensors = flat_tensors({section: combined[section]}).values()
        weights = sum(t.numel() for t in tensors)
        lines.append(f"| {section} | {weights} | {path.stat().st_size} | `{_sha256(path)}` |")
    carried = len(_entropy_model(combined[_FREQUENCY[0]], combined_path).to_bytes())
    lines += ["", f"Files in frequency mode carry the first part ({carried} bytes) and need nothing else. "
              "Files with generated frames name this checkpoint by its sha256.", ""]  # fmt: skip
    for section, path in inputs.items():
        history = path.parent / "history.csv"
        if history.is_file():
            lines += [
                f"## Selection of {section}",
                "",
                "```",
                history.read_text().strip(),
                "```",
                "",
            ]
    for manifest in manifests:
        lines += [f"## Data: {manifest}", "", "```json", manifest.read_text().strip(), "```", ""]
    lines += ["## Settings", "", "```json", json.dumps(combined["config"], indent=1), "```", ""]
    return "\n".join(lines)


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def main(argv: Sequence[str] | None = None) -> int:
    """Command line of the rule ``merge``."""
    parser = argparse.ArgumentParser(prog="caesar_freq.merge", description=__doc__.split("\n")[0])
    parser.add_argument("--freq_compressor_path", type=Path, required=True)
    parser.add_argument("--diffusion_path", type=Path, required=True)
    parser.add_argument("--distillation_path", type=Path, required=True)
    parser.add_argument(
        "--manifests", type=Path, nargs="*", default=[], help="split manifests to quote in the card"
    )
    parser.add_argument("--output", type=Path, default=Path("checkpoints/combined_model.pth"))
    args = parser.parse_args(argv)
    combined = merge(args.freq_compressor_path, args.diffusion_path, args.distillation_path)
    folder = args.output.parent
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_path(args.output) as temporary:
        torch.save(combined, temporary)
    with atomic_path(folder / "model.safetensors") as temporary:
        save_file(flat_tensors(combined), temporary, {"format": combined["format"]})
    inputs = {"freq_compressor": args.freq_compressor_path, "diffusion": args.diffusion_path,
              "single_step_diffusion": args.distillation_path}  # fmt: skip
    card = model_card(combined, args.output, inputs, args.manifests)
    write_bytes(folder / "model_card.md", card.encode())
    print(f"wrote {args.output}")
    return 0


if __name__ == "__main__":
    run_main(main)
