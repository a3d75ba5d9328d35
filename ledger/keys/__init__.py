"""Private and public keys of authors and logs: their files, their history, and changing them."""
