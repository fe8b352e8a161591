#!/bin/sh
# What Azure's run command executes on a VM as root, for jupyter-dsvm: puts its key into the authorized_keys of one ordinary
# account (grant), takes it out (revoke) or only looks (look), and prints the machine's public host keys.
# The text is constant. Parameters come by name in the environment, or in this order as arguments, and each is checked here
# again. Every line for the other side begins with the nonce, so that nothing else that is printed can be taken for one.
dsvm_action=${dsvm_action:-${1:-}}
dsvm_nonce=${dsvm_nonce:-${2:-}}
dsvm_user=${dsvm_user:-${3:-}}
dsvm_key=${dsvm_key:-${4:-}}
dsvm_until=${dsvm_until:-${5:-}}
dsvm_mark=${dsvm_mark:-${6:-}}
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 077
case $dsvm_nonce in "" | *[!0-9a-f]*) echo "the nonce is none"; exit 2 ;; esac
say() { printf '%s %s\n' "$dsvm_nonce" "$*"; }
no() { say no "$@"; say end; exit 0; }
say begin
case $dsvm_action in grant | revoke | look) ;; *) no Parameter ;; esac
case $dsvm_user in - | [A-Za-z_]*) ;; *) no Parameter ;; esac
case $dsvm_user in *[!A-Za-z0-9_.-]*) no Parameter ;; esac
case $dsvm_key in AAAA*[!A-Za-z0-9+/]*) no Parameter ;; AAAA*) ;; *) no Parameter ;; esac
case $dsvm_until in "" | *[!0-9]*) no Parameter ;; esac
case $dsvm_mark in jupyter-dsvm:*[!0-9a-f]*) no Parameter ;; jupyter-dsvm:????????????????) ;; *) no Parameter ;; esac

for file in /etc/ssh/ssh_host_*_key.pub; do
    if [ -f "$file" ]; then say host "$(head -c 2000 "$file" | head -n 1)"; fi
done

first=$(awk '$1 == "UID_MIN" && $2 ~ /^[0-9]+$/ { print $2; exit }' /etc/login.defs 2>/dev/null)
: "${first:=1000}"
# Accounts of people: no system account, and a shell that lets somebody in.
people() {
    getent passwd | awk -F: -v first="$first" '
        $3 ~ /^[0-9]+$/ && $3 + 0 >= first + 0 && $3 + 0 != 65534 && $3 + 0 != 0 &&
        $1 ~ /^[A-Za-z_][A-Za-z0-9_.-]*$/ && $7 !~ /(\/nologin|\/false|\/sync)$/ { print $1 }' | sort -u | head -n 20
}
if [ "$dsvm_user" = - ]; then
    names=$(people)
    for name in $names; do say person "$name"; done
    case $(printf '%s\n' "$names" | grep -c .) in
        1) dsvm_user=$names ;;
        0) no NoAccount ;;
        *) no UserNameNeeded ;;
    esac
fi
entry=$(getent passwd "$dsvm_user" | head -n 1)
if [ "${entry%%:*}" != "$dsvm_user" ]; then
    for name in $(people); do say person "$name"; done
    no NoAccount "$dsvm_user"
fi
uid=$(printf '%s\n' "$entry" | cut -d: -f3)
home=$(printf '%s\n' "$entry" | cut -d: -f6)
shell=$(printf '%s\n' "$entry" | cut -d: -f7)
case $uid in "" | *[!0-9]*) no SystemAccount "$dsvm_user" ;; esac
if [ "$uid" -lt "$first" ] || [ "$uid" -eq 65534 ]; then no SystemAccount "$dsvm_user"; fi
case $shell in */nologin | */false | */sync) no NoShell "$dsvm_user" ;; esac
case $home in /?*) ;; *) no Home "$dsvm_user" ;; esac
say user "$dsvm_user"
if [ "$dsvm_action" = look ]; then say end; exit 0; fi

# Where sshd can be asked: whether it reads the file that is written here.
files=$(sshd -T -C "user=$dsvm_user,host=localhost,addr=127.0.0.1" 2>/dev/null | awk '$1 == "authorizedkeysfile" { $1 = ""; print }')
case "$files " in "  " | " ") ;; *.ssh/authorized_keys" "*) ;; *) if [ "$dsvm_action" = grant ]; then no KeysElsewhere; fi ;; esac

script='@@USER_SCRIPT@@'
# As the account itself: what is written is written with its rights, wherever links in its home folder lead.
export HOME="$home"
if command -v runuser >/dev/null 2>&1; then
    said=$(runuser -u "$dsvm_user" -- /bin/sh -c "$script" sh "$dsvm_action" "$dsvm_key" "$dsvm_until" "$dsvm_mark" 2>&1 </dev/null)
elif command -v setpriv >/dev/null 2>&1; then
    said=$(setpriv --reuid "$dsvm_user" --regid "$(id -g "$dsvm_user")" --init-groups /bin/sh -c "$script" sh \
        "$dsvm_action" "$dsvm_key" "$dsvm_until" "$dsvm_mark" 2>&1 </dev/null)
elif command -v su >/dev/null 2>&1; then
    said=$(su -s /bin/sh -c "$script" "$dsvm_user" -- sh "$dsvm_action" "$dsvm_key" "$dsvm_until" "$dsvm_mark" 2>&1 </dev/null)
else
    no CannotBecome "$dsvm_user"
fi
case $(printf '%s\n' "$said" | tail -n 1) in
    done) say done ;;
    no\ *) no "$(printf '%s\n' "$said" | tail -n 1 | cut -c4-60)" "$dsvm_user" ;;
    *) no CannotBecome "$(printf '%s' "$said" | tr -c '[:print:]' ' ' | cut -c1-200)" ;;
esac
say end
