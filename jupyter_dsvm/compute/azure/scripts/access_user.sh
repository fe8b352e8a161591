# Runs as the account itself, in its home folder: puts our line into ~/.ssh/authorized_keys, or takes it out.
# Arguments: grant|revoke, the public key (base64), the moment of its end (seconds since 1970), our mark.
# The new file is written beside the old one and renamed: nobody ever sees a half, and no link is followed.
# No single quotes in here: access_root.sh holds this text in a pair of them.
action=$1 key=$2 until=$3 mark=$4
umask 077
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
no() { echo "no $1"; exit 1; }
case $mark in jupyter-dsvm:*[!0-9a-f]*) no Parameter ;; jupyter-dsvm:????????????????) ;; *) no Parameter ;; esac
case $key in AAAA*[!A-Za-z0-9+/]*) no Parameter ;; AAAA*) ;; *) no Parameter ;; esac
case $until in "" | *[!0-9]*) no Parameter ;; esac
cd -P "$HOME" 2>/dev/null || no Home
home=$(pwd -P)
if [ -L .ssh ]; then no FolderIsLink; fi
if [ ! -e .ssh ]; then
    if [ "$action" = revoke ]; then echo done; exit 0; fi
    mkdir -m 700 .ssh 2>/dev/null || no CannotWrite
fi
[ -d .ssh ] || no FolderIsNone
[ -O .ssh ] || no FolderOfAnother
cd -P .ssh 2>/dev/null || no CannotWrite
[ "$(pwd -P)" = "${home%/}/.ssh" ] || no FolderIsLink
if [ -L authorized_keys ]; then no FileIsLink; fi
if [ -e authorized_keys ]; then
    [ -f authorized_keys ] || no FileIsNone
    [ -O authorized_keys ] || no FileOfAnother
    [ -r authorized_keys ] || no CannotRead
elif [ "$action" = revoke ]; then echo done; exit 0
fi
line=
if [ "$action" = grant ]; then
    # In the time zone of the machine, as sshd reads it: OpenSSH knows a Z for UTC only since 9.1.
    unset TZ
    at=$(date -d "@$until" +%Y%m%d%H%M%S 2>/dev/null) || no Date
    case $at in *[!0-9]*) no Date ;; ??????????????) ;; *) no Date ;; esac
    line="restrict,pty,expiry-time=\"$at\" ssh-ed25519 $key $mark"
fi
new=$(mktemp .jupyter-dsvm.XXXXXXXXXX 2>/dev/null) || no CannotWrite
trap "rm -f \"$new\"" EXIT
if [ -e authorized_keys ]; then
    awk -v mark="$mark" "\$NF != mark { print }" authorized_keys >"$new" 2>/dev/null || no CannotWrite
fi
if [ -n "$line" ]; then
    printf "%s\n" "$line" >>"$new" 2>/dev/null || no CannotWrite
    [ "$(tail -n 1 "$new" 2>/dev/null)" = "$line" ] || no CannotWrite
fi
chmod 600 "$new" && mv -f "$new" authorized_keys 2>/dev/null || no CannotWrite
# Where SELinux is on, a new file needs its label.
if command -v restorecon >/dev/null 2>&1; then restorecon authorized_keys >/dev/null 2>&1; fi
echo done
