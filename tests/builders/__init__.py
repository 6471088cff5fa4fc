"""Making rows for tests, one file a noun: `create_task(session, owner=…, **overrides)`."""
