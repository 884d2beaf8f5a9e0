"""One machine in the main thread: windows to decisions, decisions to events, outlook."""
