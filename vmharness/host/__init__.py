"""What every run needs of the host."""
