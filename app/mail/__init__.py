"""E-mail: what is said (compose), how it's written (message), how it leaves (smtp). Nothing here knows a database."""
