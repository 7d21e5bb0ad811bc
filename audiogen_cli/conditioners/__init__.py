"""Text and other prompts to conditions: tensors with an explicit mask."""
