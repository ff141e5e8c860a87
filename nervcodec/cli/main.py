"""Entry point of ``hfsv``: the group, its configuration file, and errors as exit codes."""

from __future__ import annotations

import importlib
import os
import signal
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any

import click

from nervcodec.cli.signals import INTERRUPTED, TERMINATED, Terminated, on_terminate
from nervcodec.cli.terminal import say
from nervcodec.errors import HfsvError, UsageError
from nervcodec.version import __version__

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "HFSV",
    "max_content_width": 100,
}


COMMANDS = {
    "compare": "Set .hfsv files beside x264, x265 and SVT-AV1: a report.",
    "encode": "Encode a video to .hfsv.",
    "decode": "Render a .hfsv file to a video.",
    "frame": "Write frames of a .hfsv file as PNG.",
    "improve": "Train on from a finished .hfsv file.",
    "info": "Describe a .hfsv file.",
    "verify": "Check a .hfsv file, or measure it against its source.",
}
"""Each command, which the module of its name defines as ``NAME_command``, and what it does."""


class Commands(click.Group):
    """A group that imports a command when it is used: only encode needs all that there is."""

    def list_commands(self, ctx: click.Context) -> list[str]:
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            return None
        module = importlib.import_module(f"nervcodec.cli.{cmd_name}")
        command: click.Command = getattr(module, f"{cmd_name}_command")
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """The list in the help, without importing what it names."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name]) for name in self.list_commands(ctx)])


@click.group(cls=Commands, context_settings=CONTEXT)
@click.version_option(__version__, prog_name="hfsv")
@click.option(
    "--config",
    "config_path",
    type=click.Path(dir_okay=False, path_type=Path),
    help='TOML file of defaults, a table for each command: [encode] preset = "fast".',
)
@click.option("--debug", is_flag=True, help="Show a traceback with an error.")
@click.pass_context
def cli(context: click.Context, config_path: Path | None, debug: bool) -> None:
    """A neural video codec: a video becomes a small network in a .hfsv file.

    \b
    Examples:
      hfsv encode in.mp4 out.hfsv
      hfsv decode out.hfsv out.mp4
      hfsv improve out.hfsv in.mp4 --time 30m
      hfsv info out.hfsv
      hfsv verify out.hfsv --source in.mp4
      hfsv compare in.mp4 --hfsv out.hfsv -o report

    Every option can also be given as an environment variable: HFSV_ENCODE_PRESET=fast.

    Exit codes: 0 success, 1 error, 2 usage, 3 bad input video, 4 damaged or unsupported .hfsv,
    5 target not reachable, 6 output exists, 130 interrupted, 143 terminated.
    """
    context.obj = debug
    if config_path is not None:
        context.default_map = _read_config(context, config_path)


def _read_config(context: click.Context, path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: not a readable TOML file ({exc})") from exc
    tables = {}
    for command, options in values.items():
        found = cli.get_command(context, command)
        if found is None or not isinstance(options, dict):
            raise UsageError(f"{path}: [{command}] is no command of hfsv")
        names = _option_names(found)
        if unknown := sorted(set(options) - set(names)):
            raise UsageError(f"{path}: [{command}] has no option {', '.join(unknown)}")
        table = {names[option]: value for option, value in options.items()}
        tables[command] = table
    return tables


def _option_names(command: click.Command) -> dict[str, str]:
    """The parameter's name for each option as a user writes it, without dashes in front."""
    return {
        option.lstrip("-"): parameter.name
        for parameter in command.params
        if isinstance(parameter, click.Option) and parameter.name
        for option in parameter.opts
    }


def main() -> None:
    """Run the command line; every outcome ends in one of the documented exit codes."""
    # A shell starts background jobs with SIGINT ignored; who sends one means it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGTERM, on_terminate)
    sys.exit(_run())


def _run() -> int:
    debug = "--debug" in sys.argv or os.environ.get("HFSV_DEBUG") == "1"
    try:
        return int(cli.main(standalone_mode=False) or 0)
    except HfsvError as exc:
        return _fail(str(exc), exc.exit_code, debug)
    except click.ClickException as exc:
        exc.show()
        return exc.exit_code
    except (KeyboardInterrupt, click.Abort):
        say("\nhfsv: interrupted; no output was written")
        return INTERRUPTED
    except Terminated:
        say("hfsv: terminated; no output was written")
        return TERMINATED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except MemoryError:
        return _fail("not enough memory (--size or --keyint make it less)", 1, debug)
    except Exception as exc:
        return _fail(f"internal error: {type(exc).__name__}: {exc} (--debug shows where)", 1, debug)


def _fail(message: str, code: int, debug: bool) -> int:
    if debug:
        traceback.print_exc()
    say(f"hfsv: error: {message}")
    return code
