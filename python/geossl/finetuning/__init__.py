"""Finetuning: a classifier of the categories, trained end to end from an encoder's weights."""
