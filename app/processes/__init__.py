"""The long-running processes of HIVE, one module each, and what they have in common."""
