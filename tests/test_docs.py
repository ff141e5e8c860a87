"""What the documentation shows works: Python is run, commands are parsed, links lead somewhere."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import click
import pytest

from nervcodec.cli.main import cli
from tests.synthetic import moving_pattern, write_clip

ROOT = Path(__file__).parents[1]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
COMMAND = re.compile(r"^ {4}(?:.*\| )?hfsv (?P<words>[a-z-][^|#\n]*)", re.M)
PYTHON = re.compile(r"^```python\n(.*?)^```", re.M | re.S)
LINK = re.compile(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)")


def found_in(pattern: re.Pattern[str]) -> list[tuple[str, str]]:
    """Each match with the page that it is on."""
    return [
        (page.name, match[match.lastindex or 0])
        for page in PAGES
        for match in pattern.finditer(page.read_text(encoding="utf-8"))
    ]


@pytest.mark.parametrize("name", ["comparing.md"])
def test_the_examples_run(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    write_clip(tmp_path / "in.mp4", moving_pattern(80, 64, 8))
    monkeypatch.chdir(tmp_path)
    text = (ROOT / "docs" / name).read_text(encoding="utf-8")
    examples = PYTHON.findall(text)
    assert len(examples) >= 5
    for example in examples:
        exec(compile(example, name, "exec"), {})
    told = capsys.readouterr().out
    assert "no objection" in told
    assert "3 of the 4 points" in told
    assert (tmp_path / "report" / "index.html").exists()


def test_no_example_is_left_unrun() -> None:
    """Of docs/; README's needs a GPU."""
    assert {page for page, _ in found_in(PYTHON)} == {"comparing.md", "README.md"}


@pytest.mark.parametrize(("page", "words"), found_in(COMMAND))
def test_commands_are_such(page: str, words: str) -> None:
    if "COMMAND" in words:
        pytest.skip("stands for any command")
    arguments = shlex.split(re.sub(r"\[(--\w+)\]", r"\1", words))
    context: click.Context = click.Context(cli)
    while arguments[0].startswith("--"):
        arguments = arguments[2:]
    command = cli.get_command(context, arguments[0])
    assert command is not None, f"{page}: no command {arguments[0]}"
    command.make_context(arguments[0], arguments[1:], parent=context)


@pytest.mark.parametrize(("page", "target"), found_in(LINK))
def test_links_lead_somewhere(page: str, target: str) -> None:
    folder = ROOT if page == "README.md" and (ROOT / target).exists() else ROOT / "docs"
    assert (folder / target).exists(), f"{page} links to {target}"


def test_every_page_is_on_the_list() -> None:
    index = (ROOT / "docs" / "README.md").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert page.name == "README.md" or f"({page.name})" in index
