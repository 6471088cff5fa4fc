"""Why a server can't be used: the one place where a failure becomes a sentence with its cause and the way out.

The sentences are for those who run HIVE: for `hive doctor`, `hive migrate`, a part that refuses to start, and the log.
What the API answers is more general. No sentence has a password, or any other piece of an address, in it.
"""
