"""Tensors to tensors."""
