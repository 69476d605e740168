"""Embeddings: the features of an index's images in a GeoParquet file, and the search for the nearest ones."""
