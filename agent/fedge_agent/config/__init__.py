"""The configuration file as frozen structs, checked before a socket opens."""
