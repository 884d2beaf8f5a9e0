"""The commands of `fedge-agent`."""
