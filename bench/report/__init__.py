"""What was measured: as a table, as JSON, as a chart, and beside another run."""
