"""One round, pure: when it is due, what its updates weigh, and the step that comes of them."""
