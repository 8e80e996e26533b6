"""A keyboard that looks at the screen: it presses a key, waits for what it does there, and tries again.

GRUB and firmware drop keys that come too fast or at a bad moment, and nothing tells: so nobody can type blindly.
There are two keyboards of one shape, at the serial line (:func:`serial_keyboard`) and the emulated one
(:func:`emulated_keyboard`). Neither sends anything by itself: a key that nobody pressed stops a countdown.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Sequence

from vmharness.errors import Unreachable
from vmharness.model.keys import Key, Terminal, key
from vmharness.model.outcome import Ended, Stalled, describe
from vmharness.model.picture import Picture
from vmharness.vm.screen import Screen

PATIENCE_SECONDS = 4.0
"""How long a key is waited for before it counts as dropped; firmware holds an Esc back for 2 s."""

TRIES = 3
_BLIND_SECONDS = 0.1


class Keyboard:
    """A keyboard and the screen that shows what it does. Keys are named as in :func:`vmharness.model.keys.key`.

    :param screen: where the keys' effects are seen.
    :param send: presses a key once.
    :param patience: seconds after which a key without an effect counts as dropped.
    """

    def __init__(self, screen: Screen, send: Callable[[Key], None], *, patience: float = PATIENCE_SECONDS) -> None:
        self.screen = screen
        self.patience = patience
        self._send = send

    def send(self, name: str) -> None:
        """Press a key once, whatever comes of it."""
        self._send(key(name))

    def press(self, name: str, *, until: Callable[[Picture], bool] | None = None) -> Picture:
        """Press a key and wait for its effect; without one press it again, a few times at most.

        :param until: whether a picture shows the effect. By default that is any change of the text, the highlighting
            or the cursor; of the text's digits alone it is none, for they may be a countdown's.
        :raises Unreachable: there was no effect, or the machine ended.
        """
        found = self.try_press(name, until=until)
        if isinstance(found, Picture):
            return found
        raise Unreachable(
            f"the key {name!r} had no effect, pressed {TRIES} times", None, None, self.screen.text(), found
        )

    def try_press(
        self,
        name: str,
        *,
        until: Callable[[Picture], bool] | None = None,
        tries: int = TRIES,
        within: float | None = None,
    ) -> Picture | Stalled:
        """As :meth:`press`, where a key may well be without an effect: that is then no error.

        :param within: seconds for each of the tries, instead of the keyboard's patience.
        :raises Unreachable: the machine ended.
        """
        before = self.screen.picture()
        stalled: Stalled | None = None
        for _ in range(tries):
            found = self._press_once(name, before, until, within or self.patience)
            if isinstance(found, Picture):
                return found
            if not isinstance(found, Stalled):
                what = f"the key {name!r} had no effect: {describe(found)}"
                raise Unreachable(what, None, None, self.screen.text(), found)
            stalled = found
        assert stalled is not None
        return stalled

    def type(self, text: str, *, echo: bool = True) -> None:
        """Type a text, each character when the one before it has been echoed at the cursor.

        :param echo: whether it is echoed; a password is not, and is then typed blindly and slowly.
        :raises Unreachable: a character was not echoed, or the machine ended.
        """
        for character in text:
            if echo:
                self.press(character, until=_echo_of(character))
            else:
                self.send(character)
                time.sleep(_BLIND_SECONDS)

    def _press_once(
        self, name: str, before: Picture, until: Callable[[Picture], bool] | None, within: float
    ) -> Picture | Stalled | Ended:
        def has_effect(picture: Picture) -> Picture | None:
            if picture.changes == before.changes:
                return None
            works = _trace(picture) != _trace(before) if until is None else until(picture)
            return picture if works else None

        self.send(name)
        return self.screen.wait_until(has_effect, within=within, waiting_for=f"an effect of the key {name!r}")


def serial_keyboard(
    send: Callable[[bytes], None],
    screen: Screen,
    *,
    terminal: Terminal = Terminal.PC_ANSI,
    patience: float = PATIENCE_SECONDS,
) -> Keyboard:
    """The keyboard of whoever sits at the serial line.

    :param send: the console's ``send``.
    :param terminal: what the guest takes the terminal for.
    """
    return Keyboard(screen, lambda pressed: send(pressed.sequence_for(terminal)), patience=patience)


def emulated_keyboard(
    send_keys: Callable[[Sequence[str]], None], screen: Screen, *, patience: float = PATIENCE_SECONDS
) -> Keyboard:
    """The keyboard that QEMU emulates.

    :param send_keys: presses keys at the same time, by QEMU's names.
    :param screen: the serial console's: what is looked at is the same, as long as the guest shows it on both.
    """
    return Keyboard(screen, lambda pressed: send_keys(pressed.qcodes), patience=patience)


def before_cursor(picture: Picture) -> str:
    """The text of the cursor's row, up to the cursor."""
    row, column = picture.cursor
    return "".join(cell.text for cell in picture.rows[row][:column])


def _echo_of(character: str) -> Callable[[Picture], bool]:
    return lambda picture: before_cursor(picture).endswith(character)


def _trace(picture: Picture) -> tuple[object, ...]:
    """What a key may change, without what a countdown changes by itself."""
    text = re.sub(r"\d+", "0", picture.text)
    return (re.sub(r" +", " ", text), picture.selected_rows, picture.cursor)
