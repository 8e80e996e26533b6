# Purpose: what the guest scripts share. Read by each of them; never run by itself.
# Tools: busybox, blkid.
# shellcheck shell=sh

target=/target

# Leaves NAME=VALUE as a result for the host.
result() { # name value
    printf '%s=%s\n' "$1" "$2" >>"$RESULT"
}

# Ends the script with a sentence about what is wrong, and optionally what to do about it.
fail() { # sentence [hint]
    result failure "$1"
    [ $# -lt 2 ] || result hint "$2"
    echo "$1" >&2
    exit 1
}

# The last line of every script: shows the token that only a script that came this far shows.
proven() {
    result proof "$TOKEN"
}

# The block device with a serial number; waits until the kernel has found it.
disk_by_serial() { # serial
    tries=0
    while [ "$tries" -lt 250 ]; do
        for file in /sys/block/*/serial; do
            [ -e "$file" ] || continue
            if [ "$(cat "$file")" = "$1" ]; then
                device=${file%/serial}
                echo "/dev/${device##*/}"
                return 0
            fi
        done
        tries=$((tries + 1))
        sleep 0.02
    done
    fail "the disk '$1' did not appear in the guest"
}

# The partition NUMBER of a disk; waits until the kernel has read the disk's table.
partition() { # disk number
    tries=0
    while [ "$tries" -lt 250 ]; do
        for file in /sys/block/"${1#/dev/}"/*/partition; do
            if [ -e "$file" ] && [ "$(cat "$file")" = "$2" ]; then
                device=${file%/partition}
                echo "/dev/${device##*/}"
                return 0
            fi
        done
        tries=$((tries + 1))
        sleep 0.02
    done
    fail "the disk $1 has no partition $2"
}

# Makes the links that udev would make, for every block device, from what the kernel and blkid say.
make_links() {
    mkdir -p /dev/block /dev/disk/by-id /dev/disk/by-partuuid /dev/disk/by-partlabel /dev/disk/by-uuid /dev/disk/by-label \
        /dev/disk/by-diskseq
    for entry in /sys/class/block/*; do
        name=${entry##*/}
        ln -sf "../$name" "/dev/block/$(cat "$entry/dev")"
        serial_number=$(cat "$entry/serial" 2>/dev/null || cat "$entry/../serial" 2>/dev/null || true)
        if [ -n "$serial_number" ]; then
            part=$(cat "$entry/partition" 2>/dev/null || true)
            ln -sf "../../$name" "/dev/disk/by-id/virtio-$serial_number${part:+-part$part}"
        fi
        link_identifiers "$name"
    done
}

link_identifiers() { # device name
    blkid -p -o export "/dev/$1" 2>/dev/null | while IFS='=' read -r key value; do
        case $key in
        UUID) ln -sf "../../$1" "/dev/disk/by-uuid/$value" ;;
        LABEL) ln -sf "../../$1" "/dev/disk/by-label/$value" ;;
        PART_ENTRY_UUID) ln -sf "../../$1" "/dev/disk/by-partuuid/$value" ;;
        PART_ENTRY_NAME) ln -sf "../../$1" "/dev/disk/by-partlabel/$value" ;;
        esac
    done
}

# Runs a command of the target inside it. HOME is a scratch folder that leaves nothing in the image.
in_target() { # command...
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/vmharness-home LC_ALL=C.UTF-8 TERM=dumb \
        SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_IN_CHROOT=0 DEBIAN_FRONTEND=noninteractive /bin/chroot "$target" "$@"
}

# Whether the target has a program on its own PATH; an absolute link to one leads nowhere from outside the target.
target_has() { # program
    for folder in usr/local/sbin usr/local/bin usr/sbin usr/bin sbin bin; do
        if [ -x "$target/$folder/$1" ] || [ -L "$target/$folder/$1" ]; then
            return 0
        fi
    done
    return 1
}

# The target's kernels, newest last: lines "VERSION IMAGE INITRD" with paths inside the target; INITRD may be "-".
target_kernels() {
    for image in "$target"/boot/vmlinuz-* "$target"/usr/lib/modules/*/vmlinuz; do
        [ -e "$image" ] || continue
        case $image in
        */vmlinuz) version=${image%/vmlinuz} version=${version##*/} ;;
        *) version=${image##*/vmlinuz-} ;;
        esac
        initrd=-
        for candidate in "boot/initrd.img-$version" "boot/initramfs-$version.img" "boot/initrd-$version" \
            "usr/lib/modules/$version/initrd"; do
            if [ -e "$target/$candidate" ]; then
                initrd=/$candidate
                break
            fi
        done
        echo "$version ${image#"$target"} $initrd"
    done | sort -V -u -k 1,1
}
