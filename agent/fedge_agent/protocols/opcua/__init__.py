"""What the OPC UA source, outputs and commands share: trust, connection, tags, browsing, words for what goes wrong."""
