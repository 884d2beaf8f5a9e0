# SPDX-License-Identifier: Apache-2.0
"""One machine in the main thread: its windows become decisions, its decisions become events.

Takes its readings from `routing` and its model from `federation`; delivering events is left to `outputs`.
"""
