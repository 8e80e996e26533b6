"""The machine's monitor. The only door to qemu.qmp.

qemu.qmp is asynchronous; its event loop runs in one thread owned by :class:`Monitor`, so that events and a lost peer
are seen while the caller is busy elsewhere. The same loop watches the QEMU process.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable, Coroutine, Mapping
from pathlib import Path
from typing import Any, TypeVar

from qemu.qmp import ExecInterruptedError, ExecuteError, QMPClient, QMPError, Runstate
from qemu.qmp.protocol import ConnectError, StateError

from vmharness.errors import ApiMisuse, QemuDied, QmpRefused
from vmharness.vm.qmplog import QmpLog

logging.getLogger("qemu.qmp").setLevel(logging.CRITICAL)  # what goes wrong is reported as our own errors

_T = TypeVar("_T")
_DISCONNECT_SECONDS = 2.0
_LAST_EVENTS_SECONDS = 0.2


class Monitor:
    """A QMP session in a thread of its own.

    :param on_event: called from the monitor's thread with each event's name and data.
    :param on_lost: called from the monitor's thread when QEMU closes the monitor.
    :param log: file that gets what is said.
    """

    def __init__(
        self, *, on_event: Callable[[str, Mapping[str, Any]], None], on_lost: Callable[[], None], log: Path
    ) -> None:
        self._log = QmpLog(log)
        self._on_event = on_event
        self._on_lost = on_lost
        self._loop = asyncio.new_event_loop()
        self._closed = asyncio.Event()
        self._thread = threading.Thread(target=self._turn, name="monitor", daemon=True)
        self._client = QMPClient("vmharness")
        self._watchers: list[asyncio.Task[None]] = []
        self._closing = False
        self._pidfd: int | None = None
        self._thread.start()

    def watch(self, pidfd: int, on_exit: Callable[[], None]) -> None:
        """Call ``on_exit`` from the monitor's thread when the process behind ``pidfd``, now the monitor's, has ended.

        The events that it sent before are passed on first.
        """
        self._pidfd = pidfd

        def ended() -> None:
            self._forget_process()
            self._watchers.append(self._loop.create_task(self._tell_exit(on_exit)))

        self._loop.call_soon_threadsafe(self._loop.add_reader, pidfd, ended)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call ``callback`` from the monitor's thread after ``seconds``, unless the monitor is closed before."""
        self._loop.call_soon_threadsafe(self._loop.call_later, seconds, callback)

    def connect(self, stream: socket.socket, *, within: float) -> None:
        """Negotiate over ``stream``, which belongs to the monitor from here on.

        :raises QemuDied: QEMU closed the stream, or did not answer within that many seconds.
        """
        try:
            self._call(self._connect(stream), within=within)
        except TimeoutError as error:
            raise QemuDied(f"QEMU's monitor did not answer within {within:.0f} s") from error
        except (ConnectError, QMPError, OSError) as error:
            raise QemuDied(f"QEMU's monitor did not come up: {error}") from error
        except AssertionError as error:  # qemu.qmp's own, when the peer leaves right after the negotiation
            raise QemuDied("QEMU's monitor did not come up: it was closed at once") from error

    def execute(self, command: str, arguments: Mapping[str, Any], *, within: float) -> Any:
        """Run one command and give its return value.

        :raises QmpRefused: QEMU answered with an error.
        :raises QemuDied: QEMU went away, or did not answer in time.
        """
        self._log.note("command", {"execute": command, "arguments": dict(arguments)})
        try:
            answer = self._call(self._client.execute(command, dict(arguments)), within=within)
        except ExecuteError as error:
            self._log.note("error", str(error))
            raise QmpRefused(f"QEMU refused the command '{command}': {error}") from error
        except TimeoutError as error:
            raise QemuDied(f"QEMU did not answer the command '{command}' within {within:.0f} s") from error
        except (ExecInterruptedError, StateError, QMPError, OSError) as error:
            raise QemuDied(f"QEMU went away during the command '{command}'") from error
        self._log.note("answer", answer)
        return answer

    def lend(self, name: str, descriptor: int, *, within: float) -> None:
        """Give QEMU a copy of an open file, which commands then call ``fd:NAME``.

        :raises: as :meth:`execute`.
        """
        self._call(self._send(descriptor), within=within)
        self.execute("getfd", {"fdname": name}, within=within)

    def close(self) -> None:
        """End the session and its thread; a second call does nothing."""
        if self._closing:
            return
        self._closing = True
        self._loop.call_soon_threadsafe(self._closed.set)
        if threading.current_thread() is not self._thread:
            self._thread.join(timeout=2 * _DISCONNECT_SECONDS)
        self._log.close()

    def _turn(self) -> None:
        """The thread: turns the loop until the monitor is closed, then ends its tasks and closes it."""
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._session())

    async def _session(self) -> None:
        await self._closed.wait()
        self._forget_process()
        for watcher in self._watchers:
            watcher.cancel()
        await asyncio.gather(*self._watchers, return_exceptions=True)
        with contextlib.suppress(Exception):  # the peer is usually gone by now; nothing is left to tell
            async with asyncio.timeout(_DISCONNECT_SECONDS):
                await self._client.disconnect()

    def _forget_process(self) -> None:
        if self._pidfd is not None:
            self._loop.remove_reader(self._pidfd)
            os.close(self._pidfd)
            self._pidfd = None

    def _call(self, work: Coroutine[Any, Any, _T], *, within: float) -> _T:
        if threading.current_thread() is self._thread:
            work.close()
            raise ApiMisuse("a callback in the monitor's thread cannot wait for the monitor; use another thread")
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result(timeout=within)
        except BaseException:
            future.cancel()  # does nothing to one that is done
            raise

    async def _connect(self, stream: socket.socket) -> None:
        stream.setblocking(False)
        await self._client.connect(stream)
        self._watchers += [asyncio.create_task(self._pass_events_on()), asyncio.create_task(self._notice_the_end())]

    async def _send(self, descriptor: int) -> None:
        self._client.send_fd_scm(descriptor)

    async def _pass_events_on(self) -> None:
        async for event in self._client.events:
            data = event.get("data")
            self._log.note("event", {"event": event["event"], "data": data})
            self._on_event(str(event["event"]), data if isinstance(data, Mapping) else {})

    async def _tell_exit(self, on_exit: Callable[[], None]) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(_LAST_EVENTS_SECONDS):
                while self._client.runstate is Runstate.RUNNING:
                    await self._client.runstate_changed()
                while not self._client.events.empty():  # noqa: ASYNC110 -- they are passed on in the next turns
                    await asyncio.sleep(0)
        on_exit()

    async def _notice_the_end(self) -> None:
        # The present state first: it may have changed before this task ran for the first time.
        while self._client.runstate is Runstate.RUNNING:
            await self._client.runstate_changed()
        if not self._closing:
            self._on_lost()


def person_shell(path: Path) -> None:
    """Let the person at the terminal talk QMP with a running QEMU, until end of input: lines such as ``query-status``.

    :param path: of a socket on which QEMU has a monitor.
    :raises QemuDied: nobody answers there.
    """
    from qemu.qmp.qmp_shell import QMPShell  # noqa: PLC0415 -- it brings readline, which only this needs

    try:
        with QMPShell(str(path), pretty=True) as shell:
            shell.connect(negotiate=True)
            for _ in shell.repl():
                pass
    except (OSError, QMPError) as error:
        raise QemuDied(f"QEMU's monitor does not answer at {path}: {error}") from error
