"""The private half: submissions, records and secrets, plain or sealed, and their backup."""
