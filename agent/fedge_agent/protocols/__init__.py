# SPDX-License-Identifier: Apache-2.0
"""How other people's systems are spoken to: MQTT, OPC UA, Sparkplug, HTTP and CSV, each in a room of its own.

Knows neither sources nor outputs: what to read, when to deliver and how often to retry is left to them.
"""
