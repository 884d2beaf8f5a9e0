"""Gradient training of a graph: losses, optimizers, schedules, the loop, evaluation and what follows from it."""
