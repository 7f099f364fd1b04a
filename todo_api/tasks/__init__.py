"""The tasks blueprint and everything about a task."""
