"""`geossl data`: make, index, cluster and pack images. A file a command."""

from __future__ import annotations

from cyclopts import App

from geossl.cli.data.cluster import cluster
from geossl.cli.data.index import index
from geossl.cli.data.inspect import inspect
from geossl.cli.data.merge import merge
from geossl.cli.data.pack import pack
from geossl.cli.data.stats import stats
from geossl.cli.data.synth import synth

app = App(name="data", help="Make, index, cluster and pack images.")
for command in (synth, index, inspect, cluster, stats, pack, merge):
    app.command(command)
