"""What a service with a database needs: SQLAlchemy on PostgreSQL, or on one SQLite file."""
