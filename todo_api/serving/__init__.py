"""What runs in gunicorn: its worker, its logger, and the check before a start or reload."""

# The environment variable that names prometheus_client's folder for the metrics of each process.
MULTIPROC_DIR_VARIABLE = "PROMETHEUS_MULTIPROC_DIR"
