"""Clients in processes of their own, so light that the server is what is measured."""
