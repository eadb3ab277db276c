"""Errors that a user can cause, and the one place where a command turns them into an exit code."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
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
        with _orderly_end():
            code = main(argv)
    except CaesarError as error:
        print(f"error: {error}", file=sys.stderr)
        code = 2
    except MemoryError as error:
        print(
            f"error: there is not enough memory ({error}); use fewer threads or a smaller part",
            file=sys.stderr,
        )
        code = 2
    except KeyboardInterrupt:
        print("error: interrupted", file=sys.stderr)
        code = 130
    sys.exit(code or 0)


@contextmanager
def _orderly_end() -> Iterator[None]:
    """SIGTERM and SIGHUP unwind the stack as Ctrl-C does, so that temporary files are removed."""

    def leave(number: int, _) -> NoReturn:
        print(f"error: stopped by {signal.Signals(number).name}", file=sys.stderr)
        sys.exit(128 + number)

    mine = []
    if threading.current_thread() is threading.main_thread():
        # who ignores a signal (nohup) or handles it has a reason
        mine = [n for n in (signal.SIGTERM, signal.SIGHUP) if signal.getsignal(n) is signal.SIG_DFL]
    for number in mine:
        signal.signal(number, leave)
    try:
        yield
    finally:
        for number in mine:
            if signal.getsignal(number) is leave:
                signal.signal(number, signal.SIG_DFL)
