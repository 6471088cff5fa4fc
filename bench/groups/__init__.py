"""What is measured, one group of figures a file."""
