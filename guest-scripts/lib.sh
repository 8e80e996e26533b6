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

# What follows reads files with the shell's own "read" and starts as few programs as it can: each costs milliseconds in an
# emulated guest.

# The first line of a file in $line; empty if there is none.
first_line() { # file
    line=
    [ ! -e "$1" ] || read -r line <"$1" || true
}

# The block device with a serial number in $device, such as "vda"; waits until the kernel has found it.
find_disk() { # serial
    tries=0
    while [ "$tries" -lt 500 ]; do
        for file in /sys/block/*/serial; do
            first_line "$file"
            if [ "$line" = "$1" ]; then
                device=${file%/serial}
                device=${device##*/}
                return 0
            fi
        done
        tries=$((tries + 1))
        sleep 0.01
    done
    fail "the disk '$1' did not appear in the guest"
}

# Waits until the kernel has read a disk's table and found the partition NUMBER there.
await_partition() { # device number
    tries=0
    while [ "$tries" -lt 500 ]; do
        for file in "/sys/block/$1"/*/partition; do
            first_line "$file"
            [ "$line" != "$2" ] || return 0
        done
        tries=$((tries + 1))
        sleep 0.01
    done
    fail "the disk /dev/$1 has no partition $2"
}

# The links that udev would make, for a disk and its partitions, from what the kernel and blkid say.
make_links() { # device
    mkdir -p /dev/block /dev/disk/by-id /dev/disk/by-partuuid /dev/disk/by-partlabel /dev/disk/by-uuid /dev/disk/by-label
    first_line "/sys/block/$1/serial"
    number=$line
    for entry in "/sys/block/$1" "/sys/block/$1/$1"*; do
        [ -e "$entry/dev" ] || continue
        first_line "$entry/dev"
        ln -sf "../${entry##*/}" "/dev/block/$line"
        first_line "$entry/partition"
        ln -sf "../../${entry##*/}" "/dev/disk/by-id/virtio-$number${line:+-part$line}"
    done
    link_identifiers "/dev/$1"*
}

# The links by filesystem and partition identifiers, for each of these devices.
link_identifiers() { # device...
    blkid -p -o export "$@" 2>/dev/null | while IFS='=' read -r key value; do
        case $key in
        DEVNAME) name=${value##*/} ;;
        UUID) ln -sf "../../$name" "/dev/disk/by-uuid/$value" ;;
        LABEL) ln -sf "../../$name" "/dev/disk/by-label/$value" ;;
        PART_ENTRY_UUID) ln -sf "../../$name" "/dev/disk/by-partuuid/$value" ;;
        PART_ENTRY_NAME) ln -sf "../../$name" "/dev/disk/by-partlabel/$value" ;;
        esac
    done || true
}

# The link that names a disk, or its partition NUMBER, once make_links has been called for it.
by_id() { # serial [number]
    echo "/dev/disk/by-id/virtio-$1${2:+-part$2}"
}

# Gives a disk and its partitions another name, which nothing else may have. Below /dev/disk it is a link, as udev makes
# them; elsewhere a device node of its own, since programs that follow links would find the kernel's name behind one.
make_alias() { # device name
    [ ! -e "$2" ] || [ "$(readlink -f "$2")" != "/dev/$1" ] || return 0
    if [ -e "$2" ] || [ -L "$2" ]; then
        fail "the appliance has something else at $2" "choose another name for bootloader.device"
    fi
    mkdir -p "${2%/*}" || fail "the appliance cannot have a device at $2" "choose another name for bootloader.device"
    for entry in "/sys/block/$1" "/sys/block/$1/$1"*; do
        [ -e "$entry/dev" ] || continue
        first_line "$entry/partition"
        case $2 in
        /dev/disk/*) ln -s "/dev/${entry##*/}" "$2${line:+-part$line}" && continue ;;
        *[0-9]) name=$2${line:+p$line} ;;
        *) name=$2$line ;;
        esac
        first_line "$entry/dev"
        mknod -m 0660 "$name" b "${line%:*}" "${line#*:}"
    done
}

# What the target is told that its disk is called.
disk_name() { # serial
    echo "${ALIAS:-$(readlink -f "$(by_id "$1")")}"
}

# Mounts a root filesystem as the target, with its subvolumes, which are words NAME=PATH; the one for / is the default.
mount_root() { # device type options subvolumes
    mount -t "$2" ${3:+-o "$3"} "$1" "$target"
    for word in $4; do
        place=${word#*=}
        [ "$place" != / ] || continue
        mkdir -p "$target$place"
        mount -t "$2" -o "${3:+$3,}subvol=${word%%=*}" "$1" "$target$place"
    done
}

# Runs a command of the target inside it. HOME is a scratch folder that leaves nothing in the image.
in_target() { # command...
    in_root "$target" "" "$@"
}

# The same inside another root, with more variables, as shell-quoted words NAME=VALUE.
in_root() { # root variables command...
    eval "shift 2; set -- $2 /bin/chroot '$1' \"\$@\""
    env -i PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/run/vmharness-home LC_ALL=C.UTF-8 TERM=dumb \
        SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_IN_CHROOT=0 DEBIAN_FRONTEND=noninteractive "$@"
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
