"""From readings to what the model sees: windows, pictures, features, standardisation. Pure."""
