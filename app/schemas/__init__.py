"""What goes in and out: `XCreate`, `XUpdate`, `XResponse`."""
