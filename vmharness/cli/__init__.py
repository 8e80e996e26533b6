"""Arguments to one flow to an exit code; progress and colours live here."""
