"""One connection to an MQTT broker: TLS, sessions, acknowledgement, and reasons in plain words."""
