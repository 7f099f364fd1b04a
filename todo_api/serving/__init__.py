"""What runs in gunicorn: its worker, its logger, and the check before a start or reload."""
