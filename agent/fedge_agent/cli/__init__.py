# SPDX-License-Identifier: Apache-2.0
"""The commands of `fedge-agent`: a mistake is one line that helps, and heavy libraries load only where they are used.

What the commands do is left to the other rooms.
"""
