"""Pictures of data sets and runs."""
