"""How every program is started: it dies with us, and no signal comes between its start and our knowing of it."""

from __future__ import annotations

import ctypes
import signal
import subprocess
import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType
from typing import Any

_PR_SET_PDEATHSIG = 1
_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_libc = ctypes.CDLL(None, use_errno=True)


def start(argv: Sequence[str], **options: Any) -> subprocess.Popen[bytes]:
    """Start a program.

    The kernel kills it when the calling *thread* ends. A signal that asks us to end, and comes meanwhile, is obeyed
    right after, when the program is ended, too.

    :param options: those of :class:`subprocess.Popen`.
    :raises OSError: it cannot be run.
    """
    child = None
    try:
        with _signals_held():
            child = subprocess.Popen(
                argv,
                preexec_fn=_die_with_parent,  # noqa: PLW1509 -- a prctl call only, safe after fork
                **options,
            )
    except BaseException:
        if child is not None:
            child.kill()
            child.wait()
        raise
    return child


def _die_with_parent() -> None:
    """Run in a child between fork and exec: the kernel ends it when the thread that made it ends."""
    _libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


@contextmanager
def _signals_held() -> Iterator[None]:
    """Hold back the handlers of signals that ask us to end.

    A handler that raises while Python forks is lost: exceptions in the hooks that run after a fork are printed and
    dropped (``os.register_at_fork``). Only the main thread runs handlers, so the others need nothing.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    known = ((number, signal.getsignal(number)) for number in _SIGNALS)
    handlers = {number: handler for number, handler in known if callable(handler)}
    held: list[tuple[int, FrameType | None]] = []
    try:
        for number in handlers:
            signal.signal(number, lambda *arguments: held.append(arguments))
        yield
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for came, frame in held:
            handlers[signal.Signals(came)](came, frame)
