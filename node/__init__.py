"""Services that speak the log's protocols over HTTP, and their client."""
