"""The use cases: what a person wants done, without arguments, sockets or words of QEMU."""
