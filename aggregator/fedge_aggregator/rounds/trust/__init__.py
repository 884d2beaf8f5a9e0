"""What is made of the conduct of nodes: evidence, memory of it, and who weighs what."""
