"""Entry point of ``hfsv``: the group, its configuration file, and errors as exit codes."""

from __future__ import annotations

import os
import signal
import sys
import tomllib
import traceback
from pathlib import Path
from typing import Any

import click

from nervcodec.cli.common import say
from nervcodec.cli.compare import compare_command
from nervcodec.cli.decode import decode_command
from nervcodec.cli.encode import encode_command
from nervcodec.cli.frame import frame_command
from nervcodec.cli.info import info_command
from nervcodec.cli.signals import INTERRUPTED, TERMINATED, Terminated, on_terminate
from nervcodec.cli.verify import verify_command
from nervcodec.errors import HfsvError, UsageError
from nervcodec.version import __version__

CONTEXT = {
    "help_option_names": ["-h", "--help"],
    "auto_envvar_prefix": "HFSV",
    "max_content_width": 100,
}


@click.group(context_settings=CONTEXT)
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
      hfsv info out.hfsv
      hfsv verify out.hfsv --source in.mp4
      hfsv compare in.mp4 --hfsv out.hfsv -o report

    Every option can also be given as an environment variable: HFSV_ENCODE_PRESET=fast.

    Exit codes: 0 success, 1 error, 2 usage, 3 bad input video, 4 damaged or unsupported .hfsv,
    5 target not reachable, 6 output exists, 130 interrupted, 143 terminated.
    """
    context.obj = debug
    if config_path is not None:
        context.default_map = _read_config(config_path)


cli.add_command(compare_command)
cli.add_command(encode_command)
cli.add_command(decode_command)
cli.add_command(frame_command)
cli.add_command(info_command)
cli.add_command(verify_command)


def _read_config(path: Path) -> dict[str, Any]:
    try:
        values = tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as exc:
        raise UsageError(f"{path}: not a readable TOML file ({exc})") from exc
    tables = {}
    for command, options in values.items():
        if command not in cli.commands or not isinstance(options, dict):
            raise UsageError(f"{path}: [{command}] is no command of hfsv")
        names = _option_names(cli.commands[command])
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
