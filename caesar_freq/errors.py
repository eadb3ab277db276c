"""Errors that a user can cause, and the one place where a command turns them into an exit code."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from typing import NoReturn


class CaesarError(Exception):
    """Base of all errors a user can cause; the message is one sentence with the way out."""


class InputError(CaesarError):
    """The data or an argument is not what the operation can work on."""


class ConfigError(CaesarError):
    """A setting is unknown, missing or contradicts another one."""


class CorruptStreamError(CaesarError):
    """A compressed file is truncated, altered or not ours."""


class ModelError(CaesarError):
    """A checkpoint or model is missing, of another architecture or not the one that was used."""


def run_main(main: Callable[..., int | None], argv: Sequence[str] | None = None) -> NoReturn:
    """Run a command's ``main`` and exit; user errors become one line on stderr and exit code 2."""
    try:
        code = main(argv)
    except CaesarError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)
