"""What lies on the disk: durable files, databases, the log's state, what is derived from it, and cleaning up."""
