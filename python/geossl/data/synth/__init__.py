"""A small made planet in fMoW's layout: the data set that works without a download.

Where: coherent noise on the sphere decides land, temperature and moisture, these the biome, and the
biome (with a regional taste) how often each class of structure is built. When: a date decides season,
snow, crops, sun, shadows, haze and clouds. The layout of a place's structure never changes. So two
dates of one place share what its class is recognised by and little else, and the coordinates say
something about the class without settling it.
"""

from geossl.data.synth.write import PlanetSummary, make_planet

__all__ = ["PlanetSummary", "make_planet"]
