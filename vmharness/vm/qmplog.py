"""What was said over a machine's monitor, on disk while the machine lives."""

from __future__ import annotations

import json
import threading
import time
from pathlib import Path
from typing import Any

_LONGEST = 4000


class QmpLog:
    """A file of lines, one JSON object each: seconds since it was opened, what it is, and what was said.

    :param path: the file, appended to, since a machine under test is switched on many times.
    """

    def __init__(self, path: Path) -> None:
        self._file = path.open("a", encoding="utf-8", errors="replace", buffering=1)
        self._lock = threading.Lock()
        self._began = time.monotonic()

    def note(self, what: str, said: Any) -> None:
        """Write one line; what is very long is cut."""
        text = json.dumps(said, default=str)
        if len(text) > _LONGEST:
            text = json.dumps(f"{text[:_LONGEST]} ...")
        line = f'{{"seconds": {time.monotonic() - self._began:.3f}, "{what}": {text}}}\n'
        with self._lock:
            if not self._file.closed:
                self._file.write(line)

    def close(self) -> None:
        """Close the file; what is noted afterwards is dropped."""
        with self._lock:
            self._file.close()
