"""Lines for a person at the terminal; what a command needs that has nothing else to load."""

from __future__ import annotations

import click


def printable(text: object) -> str:
    """Text without control characters, which a file could use to play tricks on a terminal."""
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in str(text))


def say(line: str) -> None:
    """One line to standard error."""
    body = line.lstrip("\n")
    start = "\n" if len(body) < len(line) else ""
    click.echo(start + printable(body), err=True)
