"""The entry point: every error a user can cause ends in one clear line and its exit code."""

import errno
import sys

import typer
from rich.console import Console

from vicregl_bench.cli import (
    checkpoint_commands,
    commands,
    compare_command,
    data_commands,
    leaderboard_command,
    matches_command,
    page_command,
    pretrain_command,
    regress_command,
    reproduce_command,
    run_command,
    table_command,
)
from vicregl_bench.errors import EXIT_BAD_INPUT, EXIT_DONE, EXIT_INTERRUPTED, BenchError

_FILE_SYSTEM = {
    errno.ENOSPC,
    errno.EDQUOT,
    errno.EACCES,
    errno.EPERM,
    errno.EROFS,
    errno.ENOENT,
    errno.EEXIST,
    errno.ENOTDIR,
    errno.EISDIR,
}

app = typer.Typer(
    name="vicregl-bench",
    help="Dense evaluation of self-supervised vision backbones under exact protocols.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
run_command.register(app)
reproduce_command.register(app)
pretrain_command.register(app)
matches_command.register(app)
commands.register(app)
compare_command.register(app)
leaderboard_command.register(app)
table_command.register(app)
page_command.register(app)
checkpoint_commands.register(app)
data_commands.register(app)
regress_command.register(app)


def _fail(text: str, code: int) -> int:
    Console(stderr=True, highlight=False).print(
        f"error: {text}", markup=False, emoji=False, soft_wrap=True
    )
    return code


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and exit: 0 done, 1 a check failed, 2 bad input, 130 interrupted."""
    sys.exit(_guarded(arguments))


def _guarded(arguments: list[str] | None) -> int:
    try:
        code = app(args=arguments, standalone_mode=False)
        if code == EXIT_INTERRUPTED:
            return _fail("interrupted", EXIT_INTERRUPTED)
        return code if isinstance(code, int) else EXIT_DONE
    except (typer.Abort, KeyboardInterrupt):
        return _fail("interrupted", EXIT_INTERRUPTED)
    except BenchError as error:
        return _fail(str(error), error.exit_code)
    except ImportError as error:
        if "libGL" in str(error):
            return _fail(
                "opencv-python needs libGL, which this machine lacks: "
                "pip uninstall -y opencv-python opencv-python-headless && "
                "pip install opencv-python-headless",
                EXIT_BAD_INPUT,
            )
        raise
    except OSError as error:
        if error.errno in _FILE_SYSTEM:
            where = f" {error.filename}" if error.filename else ""
            return _fail(f"cannot read or write{where}: {error.strerror}", EXIT_BAD_INPUT)
        raise
    except Exception as error:
        # usage errors of click, which typer brings under names of its own
        if not hasattr(error, "format_message"):
            raise
        text = error.format_message()
        if type(error).__name__ == "NoArgsIsHelpError":
            sys.stderr.write(text + "\n")
            return EXIT_BAD_INPUT
        first = text.splitlines()[0].replace("Value error, ", "")
        return _fail(f"{first} (--help shows the options)", EXIT_BAD_INPUT)


if __name__ == "__main__":
    main()
