"""Sockets: who is connected, what each is sent, who is online. Nothing here knows SQL."""
