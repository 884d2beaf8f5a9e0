# SPDX-License-Identifier: Apache-2.0
"""Networks that people use on sensors and pictures, as their tools export them, and what comes of each."""
