"""What is logged about an image: digests, the signed entry, the record behind it, and evidence from both."""
