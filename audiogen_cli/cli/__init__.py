"""Argument parsing and talking to people. No torch at module level, no arithmetic."""
