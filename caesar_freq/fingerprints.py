"""What the code of a rule is, so that an edit reruns the rules that run it and no others."""

from __future__ import annotations

import ast
import hashlib
import os
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from typing import Any

PACKAGE = Path(__file__).parent
#: Codecs of this project; all others are peers.
OURS = ("frequency", "restoration", "teacher", "student", "auto")
#: What our codecs with a generator run besides.
_GENERATORS = {
    "restoration": ("caesar_freq.models.predictor", "caesar_freq.models.student"),
    "teacher": ("caesar_freq.models.predictor",),
    "student": ("caesar_freq.models.predictor", "caesar_freq.models.student"),
    "auto": ("caesar_freq.models.predictor", "caesar_freq.models.student"),
}
#: Modules that tell people how far a run is and can change no result.
SILENT = ("caesar_freq.progress",)
#: Modules that choose an implementation as they are called: what their functions import always counts.
CHOOSERS = ("caesar_freq.codec.backend", "caesar_freq.kernels.ordered")
#: Sources beside the modules of a package that are no Python: templates and C kernels.
_OTHER_SOURCES = (".j2", ".c", ".h")


def fingerprint(*modules: str, lazy: bool = True) -> str:
    """Hash of what modules and all modules of the package that they import, directly or not, do.

    A rule that has it as a parameter reruns when its code changes, and only then: comments,
    docstrings and layout do not count. The sources are read, never run. Imports inside functions
    count unless `lazy` is false.
    """
    digest = hashlib.sha256()
    for name, path in sorted(sources(*modules, lazy=lazy).items()):
        shape, _, _ = _parsed(path.read_bytes())
        digest.update(f"{name}\0{shape}\0".encode())
        if path.name == "__init__.py":
            for other in sorted(path.parent.iterdir()):
                if other.suffix in _OTHER_SOURCES:
                    digest.update(other.name.encode() + b"\0" + other.read_bytes())
    return digest.hexdigest()[:16]


def peer_code() -> str:
    """Fingerprint of what a peer's ratio hangs on besides the peer: its settings and their search."""
    digest = hashlib.sha256()
    for name in ("peers", "peer_search"):
        digest.update(_parsed((PACKAGE / f"{name}.py").read_bytes())[0].encode())
    return digest.hexdigest()[:16]


def evaluation_code(codec: str) -> str:
    """Fingerprint of what measuring a codec runs: an edit of the student leaves peers alone."""
    return fingerprint(*evaluation_modules(codec), lazy=False)


def evaluation_modules(codec: str) -> tuple[str, ...]:
    """Modules that measuring a codec starts from; what their functions import does not count."""
    ours = ("caesar_freq.api", "caesar_freq.codec.contents") if codec in OURS else ()
    return "caesar_freq.evaluate", *ours, *_GENERATORS.get(codec, ())


def sources(*modules: str, lazy: bool = True) -> dict[str, Path]:
    """Names and files of `modules` and of all that they import from this package."""
    found: dict[str, Path] = {}
    files = _files()
    waiting = list(modules)
    while waiting:
        name = waiting.pop()
        path = files.get(name)
        if path and name not in found and name not in SILENT:
            found[name] = path
            _, everywhere, at_the_top = _parsed(path.read_bytes())
            waiting += everywhere if lazy or name in CHOOSERS else at_the_top
            waiting.append(name.rpartition(".")[0])  # importing a.b runs a/__init__.py first
    return found


@cache
def _parsed(source: bytes) -> tuple[str, tuple[str, ...], tuple[str, ...]]:
    """Shape of a source without docstrings; what it imports anywhere, and at the top."""
    tree = ast.parse(source)
    everywhere, at_the_top = tuple(_imports(ast.walk(tree))), tuple(_imports(tree.body))
    return _shape(tree), everywhere, at_the_top


def _shape(node: Any) -> str:
    """`node` as text; what is empty is left out, since Python versions differ in it."""
    if isinstance(node, list):
        return "[" + ",".join(map(_shape, node)) + "]"
    if not isinstance(node, ast.AST):
        return repr(node)
    fields = dict(ast.iter_fields(node))
    has_docstring = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    if isinstance(node, has_docstring) and ast.get_docstring(node, clean=False) is not None:
        fields["body"] = node.body[1:]
    parts = (f"{key}={_shape(value)}" for key, value in fields.items() if value not in (None, []))
    return f"{type(node).__name__}({','.join(parts)})"


def _imports(nodes: Iterable[ast.AST]) -> Iterator[str]:
    """Names that `nodes` import; of those below this package some are no modules."""
    for node in nodes:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def _files() -> dict[str, Path]:
    """Modules of this package below its own ``__init__``, by name."""
    found = {}
    for folder, _, names in os.walk(PACKAGE):
        parts = ["caesar_freq", *Path(folder).relative_to(PACKAGE).parts]
        for name in names:
            if name == "__init__.py" and len(parts) > 1:
                found[".".join(parts)] = Path(folder, name)
            elif name.endswith(".py") and name != "__init__.py":
                found[".".join([*parts, name.removesuffix(".py")])] = Path(folder, name)
    return found
