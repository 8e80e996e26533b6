"""vmharness: full bootable disk images together with their EFI variable store, and proof that they boot."""

__version__ = "0.1.0"
