"""The face of ``vmharness cache``."""

from __future__ import annotations

import json
import time
from collections import defaultdict

import click

from vmharness.host import cache
from vmharness.model.sizes import format_size


def info(*, as_json: bool) -> None:
    """Print what the cache holds."""
    known = cache.entries()
    if as_json:
        data = [{"kind": item.kind, "key": item.key, "size": item.size, "last_used": item.last_used} for item in known]
        click.echo(json.dumps({"path": str(cache.root()), "limit": cache.limit(), "entries": data}, indent=2))
        return
    by_kind: dict[str, list[cache.Entry]] = defaultdict(list)
    for item in known:
        by_kind[item.kind].append(item)
    for kind, items in sorted(by_kind.items()):
        newest = time.strftime("%Y-%m-%d %H:%M", time.localtime(max(item.last_used for item in items)))
        size = format_size(sum(item.size for item in items))
        click.echo(f"{kind:<48} {len(items):>4}  {size:>10}  last used {newest}")
    total = format_size(sum(item.size for item in known))
    click.echo(f"{cache.root()}: {total} of at most {format_size(cache.limit())}")


def clear() -> None:
    """Remove every entry that is not in use, and say how much that was."""
    removed = cache.trim(0)
    left = cache.entries()
    click.echo(f"removed {format_size(removed)} from {cache.root()}")
    if left:
        click.echo(f"{len(left)} entries are in use and stay")
