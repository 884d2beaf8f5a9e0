# SPDX-License-Identifier: Apache-2.0
"""Stand-ins for a plant: PLCs that replay recordings, MQTT machines, manufacturing execution systems."""
