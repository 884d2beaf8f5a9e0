# SPDX-License-Identifier: Apache-2.0
"""The machines in the main thread: their windows become decisions, their decisions become events.

Takes its readings from `routing` and its model from `federation`; delivering events is left to `outputs`.
"""
