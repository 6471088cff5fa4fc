"""What comes in by a connection, in bytes: how much of it, how fast, and by how many. Nothing here knows a route."""
