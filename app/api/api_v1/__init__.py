"""The REST API and the sockets, version 1."""
