"""Audio in, a number out."""
