# SPDX-License-Identifier: Apache-2.0
"""Train, evaluate, tune and serve a model on this gateway; releases and updates travel by way of `federation`."""
