"""What a user does, one verb per file, as plain functions that return, raise and yield progress."""
