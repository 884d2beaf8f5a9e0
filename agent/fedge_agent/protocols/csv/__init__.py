# SPDX-License-Identifier: Apache-2.0
"""Tables as loggers, historians and stations write them: forms of CSV and Excel, files that grow, rotate or come daily.

Leaves to its users which columns they want, and when to look.
"""
