"""What is recorded about a request: log, metrics, health."""
