"""HIVE: a self-hosted, real-time task coordination backend."""

__version__ = "0.1.0"
