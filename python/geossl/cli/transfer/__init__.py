"""`geossl transfer`: train on an encoder what it is for. A file a command."""

from __future__ import annotations

from cyclopts import App

from geossl.cli.finetune import finetune
from geossl.cli.transfer.detect import detect
from geossl.cli.transfer.segment import segment

app = App(name="transfer", help="Train a detector, a segmenter or a classifier on an encoder, and score it.")
app.command(detect)
app.command(segment)
app.command(finetune, name="classify")
