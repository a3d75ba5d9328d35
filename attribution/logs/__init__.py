"""What logs say of an image: sources of facts, full scans, absence, vouched indexes."""
