"""One loop, one training step per file."""
