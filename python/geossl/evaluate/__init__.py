"""What the features are worth: probes by the protocols of the paper."""
