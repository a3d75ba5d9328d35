"""How far a generator's picture is from the probe."""
