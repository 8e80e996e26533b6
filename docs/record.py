"""Record a terminal session as an SVG picture: ``python docs/record.py OUT.svg LINE...``, one shell line each.

Each line runs in a real pseudo-terminal, so that the picture shows what a person sees; of output that is drawn anew in
place, the last state counts.
"""

import re
import sys
from itertools import groupby
from pathlib import Path

import pexpect
import pyte
from rich.console import Console
from rich.text import Text

WIDTH = 100
LINES = 400


def record(line: str) -> Text:
    """Run a shell line in a terminal and give what is on its screen at the end."""
    screen = pyte.HistoryScreen(WIDTH, LINES)
    stream = pyte.ByteStream(screen)
    child = pexpect.spawn("/bin/sh", ["-c", line], dimensions=(LINES, WIDTH), timeout=1800)
    while True:
        try:
            stream.feed(child.read_nonblocking(65536, timeout=1800))
        except pexpect.EOF:
            break
    text = Text()
    for row in range(screen.cursor.y):
        cells = [screen.buffer[row][column] for column in range(WIDTH)]
        for style, run in groupby(cells, key=style_of):
            text.append("".join(cell.data for cell in run), style=style)
        text.rstrip()
        text.append("\n")
    return text


def style_of(cell: pyte.screens.Char) -> str:
    """A screen cell's look in rich's words."""
    colour = re.sub("^bright", "bright_", cell.fg)
    return f"{'bold ' if cell.bold else ''}{'' if colour == 'default' else colour}".strip()


def main() -> None:
    """Record all lines into one picture."""
    target, *lines = sys.argv[1:]
    console = Console(record=True, width=WIDTH, force_terminal=True)
    for line in lines:
        console.print(Text.assemble(("$ ", "bold green"), (line, "bold")))
        console.print(record(line), end="")
    console.save_svg(target, title="vmharness")
    print(f"wrote {Path(target).resolve()}")


if __name__ == "__main__":
    main()
