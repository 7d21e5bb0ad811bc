"""Vectors to codes and back."""
