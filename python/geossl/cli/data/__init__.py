"""`geossl data`: make, index, cluster and pack images. A file a command."""

from __future__ import annotations

from cyclopts import App

from geossl.cli.data.cluster import cluster
from geossl.cli.data.geobench import geobench
from geossl.cli.data.geoimagenet import geoimagenet
from geossl.cli.data.index import index
from geossl.cli.data.inspect import inspect
from geossl.cli.data.leaks import leaks
from geossl.cli.data.map import map_index
from geossl.cli.data.merge import merge
from geossl.cli.data.naip import naip
from geossl.cli.data.pack import pack
from geossl.cli.data.spacenet import spacenet
from geossl.cli.data.split import split
from geossl.cli.data.stats import stats
from geossl.cli.data.synth import synth
from geossl.cli.data.validate import validate
from geossl.cli.data.xview import xview

app = App(name="data", help="Make, index, cluster and pack images.")
published = (geobench, xview, spacenet, naip, geoimagenet)
for command in (synth, index, inspect, validate, split, leaks, cluster, stats, pack, merge, *published):
    app.command(command)
app.command(map_index, name="map")
