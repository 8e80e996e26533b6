"""What a run will do: pure functions from frozen values to a frozen plan."""
