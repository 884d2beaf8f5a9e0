"""Sparkplug B (Eclipse Sparkplug 3.0): payloads, topics, what a host knows of edge nodes, what an edge node says of
itself. Pure but for `kept`: no socket, no clock; the connection is `protocols.mqtt`'s."""
