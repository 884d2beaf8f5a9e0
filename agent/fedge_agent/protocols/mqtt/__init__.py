# SPDX-License-Identifier: Apache-2.0
"""One connection to an MQTT broker, with errors that say what to do; leaves reconnecting and payloads to its users."""
