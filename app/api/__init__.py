"""HTTP: declarations that translate between requests and services."""
