"""What the option ``strategy`` allows, and which of the models given it uses."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from caesar_freq.codec.coders import Predictor
from caesar_freq.codec.segments import KINDS, STUDENT, TEACHER, Mode
from caesar_freq.errors import ModelError

#: What a caller's strategy allows; every one but "auto" also forces it.
STRATEGIES: dict[str, Callable[[Mode], bool]] = {
    "frequency": lambda mode: not mode.model,
    "restoration": lambda mode: mode.restored and not mode.generated,
    "student": lambda mode: mode.generated and not mode.restored and mode.model == STUDENT,
    "teacher": lambda mode: mode.generated and not mode.restored and mode.model == TEACHER,
    "both": lambda mode: mode.generated and mode.restored,
    "auto": lambda mode: True,
}


def models_for(
    strategy: str, predictors: Iterable[Predictor], spacing: int | None
) -> dict[int, Predictor]:
    """Those of `predictors` that a strategy uses.

    Where there is a student that restores or fills in any frames, the teacher, many times slower,
    is used only where it is named.

    Raises
    ------
    ModelError
        If none can do what a forced strategy or a forced distance of keyframes needs.
    """
    known = {number: p for number, kind in KINDS.items() for p in predictors if p.kind == kind}
    if spacing is not None:
        known = {n: p for n, p in known.items() if spacing in p.spacings}
        if not known and strategy != "frequency":
            raise ModelError(f"no model given fills in frames between keyframes {spacing} apart")
    can = [Mode(n, restored=True) for n, p in known.items() if p.restores]
    for n, p in known.items():
        if p.spacings:
            can += [Mode(n, 2), Mode(n, 2, restored=p.restores)]
    able = {mode.model: known[mode.model] for mode in can if STRATEGIES[strategy](mode)}
    if not able and strategy not in ("frequency", "auto"):
        what = strategy if strategy in KINDS.values() else "restoring"
        raise ModelError(f"strategy {strategy!r} needs a {what} model as generator")
    return dict(list(able.items())[:1])
