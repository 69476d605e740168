"""Grids of runs and evaluations, and their reports: `geossl reproduce`."""
