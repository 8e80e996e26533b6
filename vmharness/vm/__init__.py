"""One running QEMU."""
