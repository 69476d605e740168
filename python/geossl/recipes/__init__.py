"""Shipped settings, one YAML file each."""
