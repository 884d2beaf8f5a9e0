# SPDX-License-Identifier: Apache-2.0
"""The configuration file as frozen structs, all of it checked before a socket opens.

What the table of a source or output may hold is left to that source or output.
"""
