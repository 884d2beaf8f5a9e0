# SPDX-License-Identifier: Apache-2.0
"""From readings to what the model sees: windows, pictures, context and features. Pure, with no clock of its own.

What a model says of a window is left to `learning`, what follows from it to `machines`.
"""
