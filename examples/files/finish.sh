#!/bin/sh
# Checks what the bootloader's installer has left, and writes down how the image boots.
set -eu
echo "the disk is $DISK, the EFI system partition is at $ESP"
test -e "$ESP/EFI/BOOT/BOOTX64.EFI"
test -e /sys/firmware/efi
printf '%s boots with %s %s\n' "$SITE" "$ROOT_ARGUMENT" "$KERNEL_PARAMETERS" >/etc/site
echo "the image is complete"
