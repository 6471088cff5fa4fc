"""The servers that HIVE brings along, and the process that keeps them.

Only the standard library may be imported here, so that the keeper stays small.
"""
