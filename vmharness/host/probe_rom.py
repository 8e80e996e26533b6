"""A firmware of a few instructions that proves that a virtual machine really runs 64-bit code.

It is the whole content of QEMU's ``-bios``: 64 KiB, seen by the processor in the last 64 KiB below 4 GiB. It goes from
real mode through protected mode to long mode (Intel SDM volume 3, 10.8.5 "Initializing IA-32e Mode"), turns a loop,
stores and loads above 1 MiB, and ends QEMU through its ``isa-debug-exit`` device. A KVM that opens and then hangs every
guest never leaves the mode switch; one that passes a shorter test may still hang in real work, hence the loop.
"""

from __future__ import annotations

from typing import Final

SIZE: Final = 0x10000
EXIT_PORT: Final = 0xF4
EXIT_STATUS: Final = 85
"""QEMU's exit status after the ROM ran to its end: ``isa-debug-exit`` makes (value << 1) | 1 of the value 42."""

_REAL, _GDT, _PROTECTED, _LONG, _RESET = 0x0000, 0x0100, 0x0200, 0x0300, 0xFFF0
"""Where the parts lie in the ROM; add 0xFFFF0000 for the processor's address."""


def probe_rom() -> bytes:
    """The ROM's 64 KiB."""
    rom = bytearray(b"\xf4" * SIZE)  # hlt: whatever goes astray stops
    for offset, part in (
        (_REAL, _real_mode()),
        (_GDT, _descriptors()),
        (_PROTECTED, _protected_mode()),
        (_LONG, _long_mode()),
        (_RESET, bytes.fromhex("e9 0d 00")),  # jmp 0x0000 (the instruction pointer wraps at 64 KiB)
    ):
        rom[offset : offset + len(part)] = part
    return bytes(rom)


def _real_mode() -> bytes:
    """16-bit code: load the descriptor table and enter protected mode. Runs with CS based at 0xFFFF0000."""
    return bytes.fromhex(
        "fa"  # cli
        "66 2e 0f 01 16 20 01"  # lgdt cs:[0x0120]
        "0f 20 c0"  # mov eax, cr0
        "66 83 c8 01"  # or eax, 1              ; PE, protected mode
        "0f 22 c0"  # mov cr0, eax
        "66 ea 00 02 ff ff 08 00"  # jmp 0x08:0xffff0200    ; to _protected_mode
    )


def _descriptors() -> bytes:
    """The descriptor table (four entries of 8 bytes) and, after it, what ``lgdt`` reads.

    The "accessed" bits are set already: the processor must not write to a table in read-only memory.
    """
    return bytes.fromhex(
        "00 00 00 00 00 00 00 00"  # 0x00 null
        "ff ff 00 00 00 9b cf 00"  # 0x08 32-bit code, 0 to 4 GiB
        "ff ff 00 00 00 93 cf 00"  # 0x10 data, 0 to 4 GiB
        "ff ff 00 00 00 9b af 00"  # 0x18 64-bit code
        "1f 00"  # size of the table less one
        "00 01 ff ff"  # its address, 0xffff0100
    )


def _protected_mode() -> bytes:
    """32-bit code: map 0 to 4 GiB one to one with pages of 2 MiB, tables from 0x1000 on, and enter long mode."""
    return bytes.fromhex(
        "66 b8 10 00"  # mov ax, 0x10
        "8e d8"  # mov ds, ax
        "8e c0"  # mov es, ax
        "8e d0"  # mov ss, ax
        "fc"  # cld
        "bf 00 10 00 00"  # mov edi, 0x1000
        "31 c0"  # xor eax, eax
        "b9 00 18 00 00"  # mov ecx, 6 * 1024       ; six tables of 4 KiB
        "f3 ab"  # rep stosd                ; cleared
        "c7 05 00 10 00 00 03 20 00 00"  # mov dword [0x1000], 0x2003    ; PML4[0], present and writable
        "c7 05 00 20 00 00 03 30 00 00"  # mov dword [0x2000], 0x3003    ; PDPT[0], 0 to 1 GiB
        "c7 05 08 20 00 00 03 40 00 00"  # mov dword [0x2008], 0x4003    ; PDPT[1]
        "c7 05 10 20 00 00 03 50 00 00"  # mov dword [0x2010], 0x5003    ; PDPT[2]
        "c7 05 18 20 00 00 03 60 00 00"  # mov dword [0x2018], 0x6003    ; PDPT[3], 3 to 4 GiB
        "bf 00 30 00 00"  # mov edi, 0x3000
        "b8 83 00 00 00"  # mov eax, 0x83           ; present, writable, 2 MiB
        "b9 00 08 00 00"  # mov ecx, 2048           ; entries of the four page directories
        "89 07"  # next: mov [edi], eax
        "83 c7 08"  # add edi, 8
        "05 00 00 20 00"  # add eax, 0x200000
        "49"  # dec ecx
        "75 f3"  # jnz next
        "0f 20 e0"  # mov eax, cr4
        "83 c8 20"  # or eax, 0x20             ; PAE
        "0f 22 e0"  # mov cr4, eax
        "b8 00 10 00 00"  # mov eax, 0x1000
        "0f 22 d8"  # mov cr3, eax
        "b9 80 00 00 c0"  # mov ecx, 0xc0000080     ; the EFER register
        "0f 32"  # rdmsr
        "0d 00 01 00 00"  # or eax, 0x100            ; LME, long mode
        "0f 30"  # wrmsr
        "0f 20 c0"  # mov eax, cr0
        "0d 00 00 00 80"  # or eax, 0x80000000       ; PG, paging
        "0f 22 c0"  # mov cr0, eax
        "ea 00 03 ff ff 18 00"  # jmp 0x18:0xffff0300    ; to _long_mode
    )


def _long_mode() -> bytes:
    """64-bit code: turn a loop, store and load above 1 MiB, and report. R8 exists in 64-bit mode only."""
    return bytes.fromhex(
        "41 b8 80 f0 fa 02"  # mov r8d, 50000000
        "49 ff c8"  # turn: dec r8
        "75 fb"  # jnz turn
        "bb 00 00 20 00"  # mov ebx, 0x200000
        "48 b8 f0 de bc 9a 78 56 34 12"  # mov rax, 0x123456789abcdef0
        "48 89 03"  # mov [rbx], rax
        "48 8b 0b"  # mov rcx, [rbx]
        "48 39 c1"  # cmp rcx, rax
        "75 07"  # jne stop
        "b0 2a"  # mov al, 42
        "66 ba f4 00"  # mov dx, 0xf4
        "ee"  # out dx, al
        "f4"  # stop: hlt
    )
