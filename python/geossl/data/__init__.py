"""Images, their index, clusters of their places, and the loader."""
