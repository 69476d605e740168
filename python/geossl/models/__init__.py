"""Encoders, MoCo and the heads on top."""
