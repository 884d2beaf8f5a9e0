"""What the two ends send each other: strict CBOR, COSE signatures, updates, releases, trust."""
