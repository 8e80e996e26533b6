# Purpose: what the shell of a person in the appliance has besides busybox. Read by it at its start.
# Tools: busybox.
# shellcheck shell=sh

PS1='\[\033[1m\]appliance\[\033[0m\]:\w # '

# Runs a command inside the target, as installers run; by default the target's own shell.
target() { # [command...]
    if [ $# -eq 0 ]; then
        set -- /bin/sh -l
        [ ! -x /target/bin/bash ] || set -- /bin/bash -l
    fi
    env HOME=/run/vmharness-home PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin LC_ALL=C.UTF-8 \
        SYSTEMD_IGNORE_CHROOT=1 SYSTEMD_IN_CHROOT=0 /bin/chroot /target "$@"
}
