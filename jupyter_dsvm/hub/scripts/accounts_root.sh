#!/bin/sh
# What Azure's run command executes on a VM as root, for a hub's broker of jupyter-dsvm. It brings about what is wanted and may be
# repeated: sshd trusts the broker's authority for the accounts jd-* and for nobody else; those of "users" exist, without sudo, with
# a home folder of their own and limits; those of "ended" are let in no more and nothing of theirs runs; those of "removed" are gone.
# The text is constant. Parameters come by name in the environment, and each is checked here again. Every line for the other side
# begins with the nonce. The users of this VM are not trusted: as root nothing is read or written below a folder that one of them can
# write to, except by useradd and userdel and by find, which follow no links, and after nothing of that user runs any more.
PATH=/usr/sbin:/usr/bin:/sbin:/bin
LC_ALL=C
export PATH LC_ALL
umask 022
case ${dsvm_nonce:-} in "" | *[!0-9a-f]*) echo "the nonce is none"; exit 2 ;; esac
say() { printf '%s %s\n' "$dsvm_nonce" "$*"; }
no() { say no "$@"; say end; exit 0; }
say begin
case ${dsvm_vm:-} in "" | *[!0-9a-z-]*) no Parameter vm ;; esac
case ${dsvm_ca:-} in AAAA*[!A-Za-z0-9+/=.]*) no Parameter ca ;; AAAA*) ;; *) no Parameter ca ;; esac
case ${dsvm_revoked:-}${dsvm_revokedb:-} in "" | *[!A-Za-z0-9+/=-]*) no Parameter revoked ;; esac
case ${dsvm_memory:-} in - | [0-9]*[KMGT] | [0-9]*pc) ;; *) no Parameter memory ;; esac
case ${dsvm_memory%[KMGT]} in - | *pc) ;; *[!0-9]*) no Parameter memory ;; esac
case ${dsvm_memory%pc} in - | *[KMGT]) ;; *[!0-9]*) no Parameter memory ;; esac
case ${dsvm_cpu:-} in - | [0-9]*pc) ;; *) no Parameter cpu ;; esac
case ${dsvm_cpu%pc} in - ) ;; *[!0-9]*) no Parameter cpu ;; esac
case ${dsvm_tasks:-} in "" | *[!0-9]*) no Parameter tasks ;; esac
case ${dsvm_home:-} in delete | keep) ;; *) no Parameter home ;; esac
ids() {
    for id in $(printf '%s' "$1" | tr . ' '); do
        case $id in -) ;; *[!0-9a-f]*) no Parameter ids ;; ????????????????) printf '%s\n' "$id" ;; *) no Parameter ids ;; esac
    done
}
users=$(ids "${dsvm_usersa:--}.${dsvm_usersb:--}.${dsvm_usersc:--}")
ended=$(ids "${dsvm_endeda:--}.${dsvm_endedb:--}.${dsvm_endedc:--}")
removed=$(ids "${dsvm_removeda:--}.${dsvm_removedb:--}.${dsvm_removedc:--}")
case "$users$ended$removed" in *Parameter*) no Parameter ids ;; esac

for file in /etc/ssh/ssh_host_*_key.pub; do
    if [ -f "$file" ]; then say host "$(head -c 2000 "$file" | head -n 1)"; fi
done

# sshd. Everything below /etc/ssh is root's. A file is written beside the old one and renamed, so that nobody sees a half.
base=/etc/ssh/jupyter-dsvm
mkdir -p "$base/principals" /etc/ssh/sshd_config.d 2>/dev/null || no CannotWrite /etc/ssh
chown root:root "$base" "$base/principals" && chmod 755 "$base" "$base/principals" || no CannotWrite "$base"
put() {
    cat >"$1.new" && chmod 644 "$1.new" || return 1
    if cmp -s "$1.new" "$1"; then rm -f "$1.new"; return 0; fi
    mv -f "$1.new" "$1" && changed=yes
}
changed=
for blob in $(printf '%s' "$dsvm_ca" | tr . ' '); do printf 'ssh-ed25519 %s jupyter-dsvm\n' "$blob"; done | put "$base/ca.pub" \
    || no CannotWrite "$base"
printf '%s' "$dsvm_revoked${dsvm_revokedb#-}" | base64 -d 2>/dev/null | put "$base/revoked" || no CannotWrite "$base"
# No lasting key: what these accounts write into their own authorized_keys counts for nothing.
put /etc/ssh/sshd_config.d/10-jupyter-dsvm.conf <<END || no CannotWrite /etc/ssh/sshd_config.d
# Written by jupyter-dsvm for the accounts that a hub's broker makes; all others are as they were.
Match User jd-????????????????
    TrustedUserCAKeys $base/ca.pub
    AuthorizedPrincipalsFile $base/principals/%u
    RevokedKeys $base/revoked
    AuthorizedKeysFile none
    AuthorizedKeysCommand none
    AuthenticationMethods publickey
    DisableForwarding yes
END
# Where a socket starts sshd, its folder may not be there yet, and without it sshd takes no configuration at all.
if [ ! -d /run/sshd ]; then mkdir -m 755 /run/sshd 2>/dev/null; fi
sshd -t 2>/dev/null || {
    said=$(sshd -t 2>&1 | tail -n 1 | tr -c '[:print:]' ' ' | cut -c1-160)
    rm -f /etc/ssh/sshd_config.d/10-jupyter-dsvm.conf
    no SshdRefuses "$said"
}
sees=$(sshd -T -C user=jd-0000000000000000,host=localhost,addr=127.0.0.1 2>/dev/null | grep -i '^trustedusercakeys ')
case $sees in *" $base/ca.pub") ;; *) no SshdIgnores ;; esac
if [ -n "$changed" ]; then
    if [ -d /run/systemd/system ]; then
        # Nothing to do for one that does not run: it reads its configuration when it starts.
        systemctl try-reload-or-restart ssh.service 2>/dev/null ||
            systemctl try-reload-or-restart sshd.service 2>/dev/null || no SshdReload
    else
        pkill -HUP -o -x sshd || no SshdReload
    fi
fi

entry() { getent passwd "jd-$1" | head -n 1; }
# Whether the account is one that was made here; its number is in $uid then.
ours() {
    line=$(entry "$1")
    uid=$(printf '%s\n' "$line" | cut -d: -f3)
    case $uid in "" | *[!0-9]*) return 1 ;; esac
    [ "$uid" -ge 1000 ] && [ "$(printf '%s\n' "$line" | cut -d: -f5)" = jupyter-dsvm ] &&
        [ "$(printf '%s\n' "$line" | cut -d: -f6)" = "/home/jd-$1" ]
}
limits=
limit() {
    [ -d /run/systemd/system ] || return 0
    folder=/etc/systemd/system/user-$1.slice.d
    mkdir -p "$folder" || return 1
    {
        echo "[Slice]"
        echo "TasksMax=$dsvm_tasks"
        if [ "$dsvm_memory" != - ]; then echo "MemoryMax=$(printf '%s' "$dsvm_memory" | sed 's/pc$/%/')"; fi
        if [ "$dsvm_cpu" != - ]; then echo "CPUQuota=$(printf '%s' "$dsvm_cpu" | sed 's/pc$/%/')"; fi
    } | put "$folder/50-jupyter-dsvm.conf" || return 1
    limits=yes
}

present=
for id in $users; do
    name=jd-$id
    if [ -z "$(entry "$id")" ]; then
        if [ -e "/home/$name" ] || [ -L "/home/$name" ]; then say failed "$id" HomeExists; continue; fi
        useradd --create-home --home-dir "/home/$name" --shell /bin/bash --comment jupyter-dsvm --user-group \
            --password '*' "$name" >&2 || { say failed "$id" Useradd; continue; }
        # Nothing of this account has ever run.
        chmod 700 "/home/$name" || { say failed "$id" Home; continue; }
    fi
    ours "$id" || { say failed "$id" NotOurs; continue; }
    limit "$uid" || { say failed "$id" Limits; continue; }
    printf '%s/%s\n' "$dsvm_vm" "$id" | put "$base/principals/$name" || { say failed "$id" CannotWrite; continue; }
    present="$present${present:+.}$id"
done
if [ -n "$limits" ]; then systemctl daemon-reload >/dev/null 2>&1; fi
if [ -n "$present" ]; then say present "$present"; fi

# Nobody is let in as one of these any more, and then everything that runs as them is killed, connections too.
quiet() {
    rounds=0
    # By the effective and by the real user: what runs with another's rights was started by them all the same.
    while pgrep -u "$1" >/dev/null 2>&1 || pgrep -U "$1" >/dev/null 2>&1; do
        rounds=$((rounds + 1))
        if [ "$rounds" -gt 100 ]; then return 1; fi
        # Stopped first: what forks faster than it can be killed does not fork while it stands.
        for signal in STOP KILL; do
            pkill "-$signal" -u "$1" 2>/dev/null
            pkill "-$signal" -U "$1" 2>/dev/null
        done
        sleep 0.1
    done
    return 0
}
for id in $ended $removed; do rm -f "$base/principals/jd-$id"; done
again=
for id in $ended $removed; do
    if ours "$id"; then
        if [ -d /run/systemd/system ]; then loginctl disable-linger "jd-$id" >/dev/null 2>&1; fi
        quiet "$uid"
        again=yes
    fi
done
# Whoever was being let in just then is there now.
if [ -n "$again" ]; then sleep 1; fi
over=
for id in $ended; do
    if ours "$id" && ! quiet "$uid"; then say failed "$id" Alive; continue; fi
    over="$over${over:+.}$id"
done
if [ -n "$over" ]; then say ended "$over"; fi
gone=
for id in $removed; do
    name=jd-$id
    if [ -n "$(entry "$id")" ]; then
        ours "$id" || { say failed "$id" NotOurs; continue; }
        quiet "$uid" || { say failed "$id" Alive; continue; }
        crontab -r -u "$name" >/dev/null 2>&1
        for folder in /tmp /var/tmp /dev/shm /mnt; do
            if [ -d "$folder" ]; then find "$folder" -xdev -depth -uid "$uid" -delete >/dev/null 2>&1; fi
        done
        rm -rf "/etc/systemd/system/user-$uid.slice.d/50-jupyter-dsvm.conf"
        if [ "$dsvm_home" = delete ]; then remove=--remove; else remove=; fi
        # shellcheck disable=SC2086 - nothing, where the home folder is to stay
        userdel $remove "$name" >/dev/null 2>&1
        if [ -n "$(entry "$id")" ]; then say failed "$id" Userdel; continue; fi
        if [ "$dsvm_home" = keep ] && [ -d "/home/$name" ]; then
            # Whoever gets this number next shall not find it.
            kept=/home/$name.$(date +%Y%m%d%H%M%S)
            if mv -n "/home/$name" "$kept" 2>/dev/null; then chown -h root:root "$kept" && chmod 700 "$kept"; fi
        fi
    fi
    gone="$gone${gone:+.}$id"
done
if [ -n "$gone" ]; then say removed "$gone"; fi
say done
say end
