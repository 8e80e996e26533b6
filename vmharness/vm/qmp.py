"""The machine's monitor. The only door to qemu.qmp.

qemu.qmp is asynchronous; its event loop runs in one thread owned by :class:`Monitor`, so that events and a lost peer are
seen while the caller is busy elsewhere. The same loop watches the QEMU process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Mapping
from typing import Any

from qemu.qmp import ExecInterruptedError, ExecuteError, QMPClient, QMPError
from qemu.qmp.protocol import ConnectError, StateError

from vmharness.errors import QemuDied, QmpRefused

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what goes wrong is reported as our own errors


class Monitor:
    """A QMP session in a thread of its own.

    :param on_event: called from the monitor's thread with each event's name and data.
    :param on_lost: called from the monitor's thread when QEMU closes the monitor.
    """

    def __init__(self, *, on_event: Callable[[str, Mapping[str, Any]], None], on_lost: Callable[[], None]) -> None:
        self._on_event = on_event
        self._on_lost = on_lost
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="monitor", daemon=True)
        self._client = QMPClient("vmharness")
        self._watchers: list[asyncio.Task[None]] = []
        self._closing = False
        self._thread.start()

    def watch(self, pidfd: int, on_exit: Callable[[], None]) -> None:
        """Call ``on_exit`` from the monitor's thread when the process behind ``pidfd`` ends; closes ``pidfd`` then."""

        def ended() -> None:
            self._loop.remove_reader(pidfd)
            os.close(pidfd)
            on_exit()

        self._loop.call_soon_threadsafe(self._loop.add_reader, pidfd, ended)

    def connect(self, stream: socket.socket, *, within: float) -> None:
        """Negotiate over ``stream``, which belongs to the monitor from here on.

        :raises QemuDied: QEMU closed the stream, or did not answer within that many seconds.
        """
        try:
            self._call(self._connect(stream), within=within)
        except (ConnectError, QMPError, OSError) as error:
            raise QemuDied(f"QEMU's monitor did not come up: {error}") from error
        except TimeoutError as error:
            raise QemuDied(f"QEMU's monitor did not answer within {within:.0f} s") from error

    def execute(self, command: str, arguments: Mapping[str, Any], *, within: float) -> Any:
        """Run one command and give its return value.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU went away, or did not answer in time.
        """
        try:
            return self._call(self._client.execute(command, dict(arguments)), within=within)
        except ExecuteError as error:
            raise QmpRefused(f"QEMU refused the command '{command}': {error}") from error
        except (ExecInterruptedError, StateError, QMPError, OSError) as error:
            raise QemuDied(f"QEMU went away during the command '{command}'") from error
        except TimeoutError as error:
            raise QemuDied(f"QEMU did not answer the command '{command}' within {within:.0f} s") from error

    def close(self) -> None:
        """End the session and its thread."""
        self._closing = True
        with contextlib.suppress(Exception):  # the peer is usually gone by now; nothing is left to tell
            self._call(self._disconnect(), within=5)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=5)
        self._loop.close()

    def _call(self, work: Any, *, within: float) -> Any:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout=within)
        except TimeoutError:
            future.cancel()
            raise

    async def _connect(self, stream: socket.socket) -> None:
        stream.setblocking(False)  # noqa: FBT003 -- the socket module's own signature
        await self._client.connect(stream)
        self._watchers = [asyncio.create_task(self._pass_events_on()), asyncio.create_task(self._notice_the_end())]

    async def _pass_events_on(self) -> None:
        async for event in self._client.events:
            self._on_event(str(event["event"]), event.get("data", {}))

    async def _notice_the_end(self) -> None:
        while (await self._client.runstate_changed()).name == "RUNNING":
            pass
        if not self._closing:
            self._on_lost()

    async def _disconnect(self) -> None:
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        await self._client.disconnect()
