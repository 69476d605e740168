"""The command line. A mistake of the user is one line on standard error, never a traceback."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

from cyclopts import App, CycloptsError, UnknownOptionError, ValidationError
from pydantic import ValidationError as SettingsError

from geossl import __version__
from geossl.cli.data import app as data_app
from geossl.cli.demo import demo
from geossl.cli.embed import embed
from geossl.cli.export import export
from geossl.cli.finetune import finetune
from geossl.cli.neuco import neuco
from geossl.cli.predict import predict
from geossl.cli.probe import probe
from geossl.cli.recipes import app as recipes_app
from geossl.cli.reproduce import reproduce
from geossl.cli.search import search
from geossl.cli.train import train
from geossl.cli.transfer import app as transfer_app
from geossl.config import explain
from geossl.errors import GeosslError, UsageError
from geossl.renamed import explain_earlier

if TYPE_CHECKING:
    from collections.abc import Sequence

USAGE, FAILURE, INTERRUPTED = 2, 1, 130
"""Exit codes: wrong input, a failure while running, Ctrl-C."""

app = App(
    name="geossl",
    help="Geography-aware self-supervised learning: pretrain on satellite images with their places and dates.",
    version=__version__,
    help_format="markdown",
    suppress_keyboard_interrupt=False,
)
app.command(demo)
app.command(data_app)
app.command(train)
app.command(probe)
app.command(neuco)
app.command(embed)
app.command(search)
app.command(export)
app.command(reproduce)
app.command(finetune)
app.command(transfer_app)
app.command(predict)
app.command(recipes_app)


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; returns the exit code (0, 1 failure, 2 wrong input, 130 interrupted)."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    try:
        app(words, exit_on_error=False, print_error=False, result_action="return_value")
    except CycloptsError as e:
        return _complain(_wording(e), USAGE)
    except UsageError as e:
        return _complain(str(e), USAGE)
    except GeosslError as e:
        return _complain(str(e), FAILURE)
    except KeyboardInterrupt:
        return _complain("interrupted", INTERRUPTED)
    except BrokenPipeError:
        # The reader of the output went away, as `| head` does. Nothing more can be printed.
        sys.stderr.close()
        return FAILURE
    except OSError as e:
        # A full disk, a folder that may not be written to: the system's words name the file.
        return _complain(str(e), FAILURE)
    return 0


def _wording(error: CycloptsError) -> str:
    if isinstance(error, ValidationError) and isinstance(error.__cause__, SettingsError):
        return explain(error.__cause__)
    if isinstance(error, UnknownOptionError) and (said := explain_earlier(_setting(error))):
        return said
    return " ".join(str(error).split())


def _setting(error: UnknownOptionError) -> str:
    """The name of the setting that an unknown option would be."""
    return (error.token.keyword or "").removeprefix("--").replace("-", "_")


def _complain(message: str, code: int) -> int:
    print(f"geossl: {message}", file=sys.stderr)
    return code
