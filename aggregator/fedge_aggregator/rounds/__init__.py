# SPDX-License-Identifier: Apache-2.0
"""One round, pure: when it is due, what each update weighs, and the step that they lead to together."""
