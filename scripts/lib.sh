# shellcheck shell=bash
# What setup, run, test and check share. Sourced by them, not run.

set -euo pipefail
umask 022

script=$(readlink -f -- "$0")
# shellcheck disable=SC2034  # used by those that source this
checkout=${script%/*/*}
name=${script##*/}

say() { printf '%s: %s\n' "$name" "$*" >&2; }
die() {
    say "error: $*"
    exit 1
}

# Print the comment at the head of the script: its usage.
usage() { sed -n '2,/^$/s/^# \{0,1\}//p' "$script" >&2; }

# Run this script again as root where sudo allows it; otherwise return, and go on as an ordinary user.
# sudo clears the environment: what pip, apt-get and these scripts are configured by is kept.
elevate() {
    local keep
    if ((EUID == 0)); then return; fi
    # A password is asked for only where somebody can answer, and once.
    if [[ ${MTAD_SUDO:-} == no ]] || ! command -v sudo >/dev/null ||
        ! { sudo -n true 2>/dev/null || { [[ -t 0 ]] && sudo -v; }; }; then
        export MTAD_SUDO=no
        return
    fi
    keep=$(compgen -e | grep -Ei '^(mtad_|pip_|ssl_cert_|(http|https|ftp|all|no)_proxy$|ci$|(requests|curl)_ca_bundle$)' |
        paste -sd,) || true
    if [[ -z ${PIP_CONFIG_FILE:-} && -r ${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf ]]; then
        export PIP_CONFIG_FILE=${XDG_CONFIG_HOME:-$HOME/.config}/pip/pip.conf
        keep+=,PIP_CONFIG_FILE
    fi
    say "needs root: running again with sudo"
    exec sudo --preserve-env="${keep#,}" -- "$script" "$@"
}

# as_ecuser COMMAND…: with ecuser's identity, no groups, no capabilities, no environment.
as_ecuser() {
    setpriv --reuid=ecuser --regid=ecuser --clear-groups --inh-caps=-all --no-new-privs \
        env -i -- "$@"
}

# unpack DIRECTORY PACKAGE…: Debian's packages, with what they need and is not here, neither installed
# nor started. Fails if they cannot be had; DIRECTORY.log says why.
unpack() {
    local target=$1 work deb
    shift
    if [[ -d $target ]]; then return; fi
    say "unpacking to $target: $*"
    mkdir -p -- "${target%/*}"
    work=$(mktemp -d -- "$target.XXXXXX")
    mkdir -p -- "$work"/archives/partial "$work/tree"
    if (
        download "$work/archives" "$@" || { apt-get update && download "$work/archives" "$@"; } || exit
        for deb in "$work"/archives/*.deb; do dpkg-deb -x "$deb" "$work/tree" || exit; done
    ) </dev/null >"$target.log" 2>&1; then
        chmod 0755 -- "$work/tree"
        mv -T -- "$work/tree" "$target"
    fi
    rm -rf -- "$work"
    [[ -d $target ]]
}

# download DIRECTORY PACKAGE…: the archives, also of what is installed; of what these need, what is not.
download() {
    apt-get --yes --no-install-recommends --reinstall --download-only \
        -o Dir::Cache::archives="$1" install "${@:2}"
}
