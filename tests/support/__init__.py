# SPDX-License-Identifier: Apache-2.0
"""What tests share: counterparts, servers, sites and references, each named for what it holds."""
