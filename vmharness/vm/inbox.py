"""Text on its way from a console's reader to whoever waits for it: bounded, so that no guest can fill our memory."""

from __future__ import annotations

import threading
from collections import deque

_BACKLOG = 1 << 20
_PIECE = 4096


class Inbox:
    """A queue of text between two threads.

    :param lossless: a full inbox makes the writer wait; otherwise it forgets its oldest text.
    """

    def __init__(self, *, lossless: bool) -> None:
        self._lossless = lossless
        self._changed = threading.Condition()
        self._pieces: deque[str] = deque()
        self._size = 0
        self._ended = False

    def put(self, text: str) -> None:
        """Add ``text``; after the end it is dropped."""
        with self._changed:
            while self._lossless and self._size >= _BACKLOG and not self._ended:
                self._changed.wait()
            if self._ended:
                return
            self._append(text)
            while not self._lossless and self._size > _BACKLOG:
                self._size -= len(self._pieces.popleft())
            self._changed.notify_all()

    def get(self, seconds: float) -> str | None:
        """The next piece, of 4096 characters at most; None when the end is reached and nothing is left.

        An empty piece says that what came before it was dropped (:meth:`clear`).

        :raises TimeoutError: nothing came within ``seconds``.
        """
        with self._changed:
            if not self._changed.wait_for(lambda: self._pieces or self._ended, max(seconds, 0.0)):
                raise TimeoutError
            if not self._pieces:
                return None
            piece = self._pieces.popleft()
            self._size -= len(piece)
            self._changed.notify_all()
            return piece

    def clear(self) -> None:
        """Drop what is there; an empty piece takes its place, so that the reader drops what it has, too."""
        with self._changed:
            self._pieces.clear()
            self._pieces.append("")
            self._size = 0
            self._changed.notify_all()

    def begins_anew(self) -> bool:
        """Whether :meth:`clear` was called and the empty piece not taken yet; takes it."""
        with self._changed:
            if not self._pieces or self._pieces[0]:
                return False
            self._pieces.popleft()
            return True

    def end(self) -> None:
        """Nothing comes any more: what is there can still be taken, and nobody waits."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()

    def _append(self, text: str) -> None:
        self._size += len(text)
        if self._pieces and self._pieces[-1] and len(self._pieces[-1]) + len(text) <= _PIECE:
            self._pieces[-1] += text  # a slow line comes in single characters
        else:
            self._pieces.extend(text[at : at + _PIECE] for at in range(0, len(text), _PIECE))
