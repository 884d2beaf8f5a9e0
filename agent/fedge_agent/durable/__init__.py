"""What survives a power cut: readings not yet decided, events, progress, releases."""
