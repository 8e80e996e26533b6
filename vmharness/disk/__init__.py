"""What is laid on the disk without a guest."""
