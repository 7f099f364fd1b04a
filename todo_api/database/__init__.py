"""Runs one statement on PostgreSQL or SQLite, and knows when it may run it again."""
