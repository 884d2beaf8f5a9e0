"""CSV as loggers and stations write it: rows with times, and files that grow and rotate."""
