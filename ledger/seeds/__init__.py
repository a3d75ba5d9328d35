"""Seeds that their author could not choose: drawn, committed one by one or by epoch."""
