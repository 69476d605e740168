"""Trained encoders for other programs: weights, what they are, and a model card."""
