# SPDX-License-Identifier: Apache-2.0
"""All state but the private keys, in one SQLite file: what a method has returned from is durable."""
