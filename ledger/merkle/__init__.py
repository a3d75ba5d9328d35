"""The tree, its tiles, and reading and writing them without trust in who serves them."""
