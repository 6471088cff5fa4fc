"""What every room may lean on: errors, logging, security, permissions."""
