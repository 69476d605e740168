"""Loaders that people use, each doing the job of `work.Job` in the way that its own documentation advises."""
