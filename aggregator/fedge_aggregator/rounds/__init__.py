"""One round, pure: when it is due, what each update weighs, and the step that they lead to together."""
