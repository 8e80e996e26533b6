"""The keys of a keyboard by name: what they send over a serial line, and what QEMU calls them."""

from __future__ import annotations

import string
from collections.abc import Mapping
from enum import Enum

from attrs import field, frozen


class Terminal(Enum):
    """What the guest takes the terminal at the serial line for; it decides about the sequences of some keys.

    Arrows, letters, Enter, Esc, Tab, Backspace and Ctrl with a letter are the same for all.
    """

    PC_ANSI = "pc-ansi"
    """OVMF until March 2023, among them Debian 12's (edk2 pull request 4164). GRUB for EFI and systemd-boot read their
    keys through the firmware."""

    VT_UTF8 = "vt-utf8"
    """OVMF from then on."""

    VT100 = "vt100"
    """Linux, and GRUB with a serial terminal of its own, as on a BIOS (``terminal_input serial``)."""


@frozen(kw_only=True)
class Key:
    """One key, or one with Ctrl held.

    :param name: as people call it: ``down``, ``f10``, ``ctrl-x``, ``a``.
    :param sequence: what it sends over a serial line.
    :param qcodes: QEMU's names (``QKeyCode``) of the keys that are pressed together, on a US keyboard.
    :param others: sequences of terminals for which they differ.
    """

    name: str
    sequence: bytes
    qcodes: tuple[str, ...]
    others: Mapping[Terminal, bytes] = field(factory=dict)

    def sequence_for(self, terminal: Terminal) -> bytes:
        """What the key sends over a serial line at whose end such a terminal is expected."""
        return self.others.get(terminal, self.sequence)


def key(name: str) -> Key:
    """The key of that name: one of :data:`NAMES`, ``ctrl-`` and a letter, or a character that the US keyboard has.

    :raises ValueError: there is none.
    """
    found = _KEYS.get(name) or _KEYS.get(name.lower())
    if found is None:
        raise ValueError(
            f"no key is called {name!r}; there are {', '.join(NAMES)}, ctrl-a to ctrl-z, and each character"
        )
    return found


def _special(name: str, sequence: bytes, qcode: str, utf8: bytes = b"", vt100: bytes = b"") -> Key:
    others = {Terminal.VT_UTF8: utf8, Terminal.VT100: vt100}
    return Key(
        name=name, sequence=sequence, qcodes=(qcode,), others={kind: other for kind, other in others.items() if other}
    )


# The sequences that EDK II takes (MdeModulePkg/Universal/Console/TerminalDxe/TerminalConIn.c, UnicodeToEfiKey), and
# those of a VT220 as Linux and GRUB (grub-core/term/terminfo.c) know them.
_SPECIAL = (
    _special("up", b"\x1b[A", "up"),
    _special("down", b"\x1b[B", "down"),
    _special("right", b"\x1b[C", "right"),
    _special("left", b"\x1b[D", "left"),
    _special("enter", b"\r", "ret"),
    _special("esc", b"\x1b", "esc"),
    _special("tab", b"\t", "tab"),
    _special("backspace", b"\x08", "backspace", vt100=b"\x7f"),
    _special("home", b"\x1b[H", "home", b"\x1bh", b"\x1b[1~"),
    _special("end", b"\x1b[F", "end", b"\x1bk", b"\x1b[4~"),
    _special("insert", b"\x1b[L", "insert", b"\x1b+", b"\x1b[2~"),
    _special("delete", b"\x1b[X", "delete", b"\x1b-", b"\x1b[3~"),
    _special("pageup", b"\x1b[I", "pgup", b"\x1b?", b"\x1b[5~"),
    _special("pagedown", b"\x1b[G", "pgdn", b"\x1b/", b"\x1b[6~"),
    _special("f1", b"\x1b[M", "f1", b"\x1b1", b"\x1bOP"),
    _special("f2", b"\x1b[N", "f2", b"\x1b2", b"\x1bOQ"),
    _special("f3", b"\x1b[O", "f3", b"\x1b3", b"\x1bOR"),
    _special("f4", b"\x1b[P", "f4", b"\x1b4", b"\x1bOS"),
    _special("f5", b"\x1b[Q", "f5", b"\x1b5", b"\x1b[15~"),
    _special("f6", b"\x1b[R", "f6", b"\x1b6", b"\x1b[17~"),
    _special("f7", b"\x1b[S", "f7", b"\x1b7", b"\x1b[18~"),
    _special("f8", b"\x1b[T", "f8", b"\x1b8", b"\x1b[19~"),
    _special("f9", b"\x1b[U", "f9", b"\x1b9", b"\x1b[20~"),
    _special("f10", b"\x1b[V", "f10", b"\x1b0", b"\x1b[21~"),
)

NAMES = tuple(special.name for special in _SPECIAL)
"""The keys that have names, besides characters and Ctrl with a letter."""

_PLAIN = {
    " ": "spc", "-": "minus", "=": "equal", "[": "bracket_left", "]": "bracket_right", "\\": "backslash",
    ";": "semicolon", "'": "apostrophe", "`": "grave_accent", ",": "comma", ".": "dot", "/": "slash",
}  # fmt: skip
_SHIFTED = dict(zip('!@#$%^&*()_+{}|:"~<>?', "1234567890-=[]\\;'`,./", strict=True))


def _qcodes(character: str) -> tuple[str, ...]:
    if character in string.ascii_uppercase:
        return ("shift", character.lower())
    if character in _SHIFTED:
        return ("shift", *_qcodes(_SHIFTED[character]))
    return (_PLAIN.get(character, character),)


_CHARACTERS = [chr(code) for code in range(0x20, 0x7F)]

_KEYS: Mapping[str, Key] = {
    **{special.name: special for special in _SPECIAL},
    **{
        character: Key(name=character, sequence=character.encode(), qcodes=_qcodes(character))
        for character in _CHARACTERS
    },
    **{
        f"ctrl-{letter}": Key(name=f"ctrl-{letter}", sequence=bytes([ord(letter) & 0x1F]), qcodes=("ctrl", letter))
        for letter in string.ascii_lowercase
    },
}
