# SPDX-License-Identifier: Apache-2.0
"""What both programs need of the machine: durable files and databases, locks, threads, time stamps, settings, services.

Promises that each of these is done in one place, the same way on every Python. Knows nothing of models or messages.
"""
