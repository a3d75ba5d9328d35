"""Generators as the engine sees them: one small protocol, architectures, loading from model folders."""
