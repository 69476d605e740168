"""Benchmarks of others: their data sets read, their files written, and encoders of ours put into their programs."""
