"""The log of events: what they are (types), writing them (outbox), publishing (relay), reading (stream)."""
