# SPDX-License-Identifier: Apache-2.0
"""What gateways may ask over HTTP and TLS, and how they are enrolled; rounds and releases are left to federations."""
