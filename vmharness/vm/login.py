"""Logs in on a booted system's serial console, as a person would: wait, type, look at what comes.

No prompt of a shell is waited for: they look like anything. What is typed instead makes the shell, whichever it is,
turn itself into ``/bin/sh`` and print a word that stands nowhere in the typed text.
"""

from __future__ import annotations

import re
import secrets
import time

from vmharness.errors import Unreachable
from vmharness.host.data import data_directory
from vmharness.model.outcome import Stalled
from vmharness.vm.console import Console, Seen
from vmharness.vm.guest import unreachable
from vmharness.vm.inside import Deadline
from vmharness.vm.shell import PROMPT, Shell

_SOON = 0.3  # what prompts drops what was typed before it listens
_LOOK_AGAIN = 0.5
_LONGEST_PAUSE = 4.0
_FORGIVEN = 3.0  # how long a password that was given may stay unasked for

_CHANGE = re.compile(
    r"You are required to change your password[^\n]*|[Pp]assword (?:has )?expired|"
    r"(?:[Cc]urrent|[Nn]ew|[Oo]ld|Retype)[^\n:]*[Pp]assword"
)
_REFUSED = re.compile(
    r"Login incorrect|Authentication failure|[Aa]ccount (?:has |is |has been )?(?:locked|expired|disabled)[^\n]*|"
    r"This account is currently not available|Cannot execute [^\n]*"
)
_ASKING = re.compile("login: ?")
_PASSWORD = re.compile(r"[Pp]assword[^\n:]*: ?")
_AUTOMATIC = re.compile(r"login: (\S+) \(automatic login\)")
_LATE_MESSAGES = re.compile(r"login: ?(?:\[ *\d+\.\d{6}\](?!.*reboot:)[^\n]*\n?)+\Z")


def login(console: Console, user: str, password: str | None = None, *, within: float) -> Shell:
    """Log in and get ready to run commands; the user's login shell may be any.

    Nothing is typed before the console asks for a login.

    :param console: the machine's log console.
    :param password: None where the user has none.
    :param within: seconds, the rest of the boot included.
    :raises Unreachable: the machine ended, it refused the user, or it was not done in time.
    """
    deadline = Deadline(waiting_for=f"login of '{user}' on the console", within=within)
    return _Login(console, user, password, deadline).perform()


class _Login:
    def __init__(self, console: Console, user: str, password: str | None, deadline: Deadline) -> None:
        self._console = console
        self._user = user
        self._password = password
        self._deadline = deadline
        self._nonce = f"vmh{secrets.token_hex(4)}"
        self._attempts = 0
        self._named = 0.0
        self._password_sent = False

    def perform(self) -> Shell:
        self._await_prompt()
        pause = _LOOK_AGAIN
        while (seen := self._look(pause, self._ready(), _CHANGE, _REFUSED, _PASSWORD)) is None or seen.index != 0:
            if seen is None:
                self._press_on()
                pause = min(2 * pause, _LONGEST_PAUSE)
            elif seen.index == 3:
                self._type_password()
            else:
                raise self._refused(seen)
        script = _script()
        # One line, so that a line that was typed in vain and comes late is not taken for the script's.
        self._type("\n".join([f'eval "$(head -n {len(script)})"', *script, ""]))
        shell = Shell(self._console, self._nonce)
        shell.greet(self._deadline)
        return shell

    def _await_prompt(self) -> None:
        """Wait until the console asks who logs in, and say so; or until it has logged the user in by itself."""
        while True:
            automatic = _AUTOMATIC.search(self._console.last_words)
            if automatic is not None:
                if automatic[1] != self._user:
                    raise self._error(f"the guest's console logs in '{automatic[1]}' by itself, not '{self._user}'")
                return
            if PROMPT.search(self._console.unfinished):
                self._type_user()
                return
            if self._look(_LOOK_AGAIN, _ASKING) is not None:
                time.sleep(_SOON)  # what follows shows whether that was the prompt
            elif _LATE_MESSAGES.search(self._console.last_words):
                self._type("\r")  # it asks again

    def _look(self, pause: float, *patterns: re.Pattern[str]) -> Seen | None:
        """What comes within ``pause`` seconds."""
        within = min(pause, self._deadline.left)
        seen = self._console.expect(patterns, within=within, waiting_for=self._deadline.waiting_for)
        if isinstance(seen, Seen):
            return seen
        if not isinstance(seen, Stalled):
            raise unreachable(seen)
        if self._deadline.left <= 0:
            raise self._deadline.missed(self._console.last_words)
        return None

    def _press_on(self) -> None:
        """Nothing has come for a while: it is our turn."""
        if PROMPT.search(self._console.unfinished):  # it did not listen yet, or has given up waiting
            self._type_user()
        elif self._password is None or self._password_sent or time.monotonic() - self._named > _FORGIVEN:
            self._attempts += 1
            self._type(f"\x15 exec /bin/sh -c '{self._takeover()}'\r")  # ^U drops what is on the line

    def _takeover(self) -> str:
        """What POSIX shells, csh and fish hand on as it is: no ``!``, no backslash, no quote."""
        word = f'{self._nonce}""shell{self._attempts}.'
        return f'stty sane -echo; echo {word}; while read -r line; do eval "$line"; done'

    def _ready(self) -> re.Pattern[str]:
        """What the last takeover prints; earlier ones may still come."""
        return re.compile(rf"{self._nonce}shell{self._attempts}\.")

    def _type_user(self) -> None:
        self._named = time.monotonic()
        self._password_sent = False
        self._type(f"{self._user}\r")

    def _type_password(self) -> None:
        time.sleep(_SOON)
        if not _PASSWORD.search(self._console.unfinished):
            return  # words about passwords, such as a greeting may have
        if self._password is None:
            raise self._error(f"the guest asks for a password of '{self._user}', and none was given")
        if self._password_sent:
            raise self._error(f"the guest refused the login of '{self._user}': it asks for the password again")
        self._password_sent = True
        self._type(f"{self._password}\r")

    def _refused(self, seen: Seen) -> Unreachable:
        if seen.index == 1:
            return self._error(f"the guest wants '{self._user}' to change the password before it lets them in")
        return self._error(
            f"the guest refused the login of '{self._user}': {seen.text.strip()}",
            "the password is wrong, or the account is locked or must not log in on this terminal",
        )

    def _error(self, what: str, hint: str | None = None) -> Unreachable:
        return Unreachable(what, None, hint, self._console.last_words)

    def _type(self, text: str) -> None:
        self._console.send(text.encode())


def _script() -> list[str]:
    """The lines of the guest script without its comments."""
    text = (data_directory("guest-scripts") / "booted" / "shell").read_text(encoding="utf-8")
    return [line for line in text.splitlines() if line and not line.startswith("#")]
