"""What gunicorn needs: the worker and its logger."""
