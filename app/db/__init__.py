"""The way to PostgreSQL: all that knows the driver. `Database` in `app/database.py` is its door."""
