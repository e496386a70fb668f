"""The ``fettle`` command: its verbs, and what happens to errors.

In: argv. Out: results on stdout, talk on stderr, an exit code. Must not know: torch, before a verb
needs it (``fettle --help`` answers in under half a second; a test holds it to that).
"""

import os
import sys
from typing import Annotated, NoReturn

import typer

from fettle.cli.chat import chat
from fettle.cli.check import check
from fettle.cli.compare import compare
from fettle.cli.doctor import doctor
from fettle.cli.evaluate import evaluate
from fettle.cli.output import fail
from fettle.cli.plan import plan
from fettle.cli.predict import predict
from fettle.cli.report import report
from fettle.cli.restore import restore
from fettle.cli.resume import resume
from fettle.cli.run import run
from fettle.cli.selftest import selftest
from fettle.errors import FettleError, Interrupted, MachineError, OutOfMemory, UsageError
from fettle.progress import hush
from fettle.version import __version__

KILLED = 130
"""What typer makes of a Ctrl-C that no verb handled."""
WrongUse = next(kind for kind in typer.BadParameter.__mro__ if kind.__name__ == "ClickException")
"""click's base of all usage errors; typer carries a copy of click that has no public name."""

VERBS = (run, plan, check, restore, resume, evaluate, compare, predict, chat, report, doctor)

app = typer.Typer(
    help="Fine-tune with proof: a pretrained model and a data file in, a model that is proven"
    " better out.",
    epilog="Start with: fettle run tickets.csv",
    no_args_is_help=True,
    add_completion=True,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
for verb in VERBS:
    app.command()(verb)
app.add_typer(selftest, name="selftest")


def _version(value: bool) -> None:
    if value:
        print(f"fettle {__version__}")
        raise typer.Exit


@app.callback()
def _common(
    version: Annotated[
        bool, typer.Option("--version", callback=_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    pass


def main() -> NoReturn:
    """Run the command line and exit with the code of DESIGN section 5."""
    code = _run()
    if code == KILLED:
        code = fail(
            Interrupted(
                "E0606",
                "stopped at once",
                hint="a run goes on from its newest checkpoint with `fettle resume RUN`",
            )
        )
    sys.exit(code)


def _run() -> int:
    """The exit code; with FETTLE_DEBUG=1 errors are raised instead."""
    debug = os.environ.get("FETTLE_DEBUG") == "1"
    try:
        code = app(standalone_mode=False)
        return code if isinstance(code, int) else 0
    except BrokenPipeError:
        # The reader of our output has gone; nobody is left to tell.
        hush(sys.stdout)
        return 0
    except (KeyboardInterrupt, typer.Abort):
        return KILLED
    except Exception as error:
        if debug:
            raise
        if isinstance(error, WrongUse) and not error.format_message().strip():
            return 2  # no verb was given, and the help is on the screen
        return fail(_explained(error))


def _explained(error: Exception) -> FettleError:
    """Any exception as an error that says what to do."""
    if isinstance(error, FettleError):
        return error
    if isinstance(error, WrongUse):
        context = getattr(error, "ctx", None)
        command = context.command_path if context is not None else "fettle"
        message = error.format_message().strip().rstrip(".")
        return UsageError(
            "E0101", message[:1].lower() + message[1:], hint=f"see `{command} --help`"
        )
    if isinstance(error, MemoryError):
        return OutOfMemory(
            "E0605", "out of memory", hint="close other programs, or use a smaller base or file"
        )
    if isinstance(error, OSError):
        return MachineError(
            "E0403",
            f"the machine refused: {error.strerror or error}",
            where=str(error.filename or ""),
            hint="check space and permissions there; FETTLE_DEBUG=1 shows where it happened",
        )
    return FettleError(
        "E0001",
        f"a bug in fettle: {type(error).__name__}: {error}",
        hint="run it again with FETTLE_DEBUG=1 and report the trace",
    )
