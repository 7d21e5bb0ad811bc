"""Codes to bytes and back. Nothing here knows a model."""
