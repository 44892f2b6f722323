# shellcheck shell=bash
# Sets up what the scripts of this checkout need. Sourced by service/try, tests/run and .ci/run.
#
#   begin               sets $root, the checkout, and $venv and $python in it; a Python that will do is there
#   need CMD=PACKAGE…   every command CMD is there, and what makes a virtual environment; else the packages of
#                       Debian are installed where that is permitted
#   setup_venv EXTRA…   $venv is there with mk2dbus (editable) and these extras, as pyproject.toml has them now
#
# Each of them ends the script with one line on stderr and exit code 1 when it cannot be done.

say() { printf '%s\n' "$*"; }
die() { printf '%s: %s\n' "${script_name:-${0##*/}}" "$*" >&2; exit 1; }

begin() {
    root=$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")/.." && pwd -P)
    venv=$root/.venv
    python=$venv/bin/python
    venv_works || find_python >/dev/null \
        || die "needs Python 3.11 or newer: please install python3 (Debian 12 or newer has it)"
}

# Runs a command quietly; its output is shown only when it fails.
quietly() {
    local output code=0
    output=$("$@" 2>&1 </dev/null) || code=$?
    [ "$code" -eq 0 ] || printf '%s\n' "$output" >&2
    return "$code"
}

# --- packages of the system -------------------------------------------------------------------------------------

# Prints how to become root without a password: nothing, or "sudo -n". Fails where it is not possible.
root_prefix() {
    if [ "$(id -u)" -eq 0 ]; then return 0; fi
    if command -v sudo >/dev/null && sudo -n true 2>/dev/null; then printf 'sudo -n'; return 0; fi
    return 1
}

install_packages() {
    local prefix
    command -v apt-get >/dev/null || die "please install with your package manager (Debian's names): $*"
    prefix=$(root_prefix) || die "please run: sudo apt-get install $*"
    say "Installing from the system's packages: $*"
    # shellcheck disable=SC2086  # the prefix is two words or none
    {
        # An old package list may still do when the update fails.
        quietly $prefix env DEBIAN_FRONTEND=noninteractive apt-get -q update || true
        quietly $prefix env DEBIAN_FRONTEND=noninteractive apt-get -q -y --no-install-recommends install "$@" \
            || die "could not install $*; please install by hand"
    }
}

# A command is there; "venv": an environment is there, or Python can make one.
has() {
    if [ "$1" != venv ]; then command -v "$1" >/dev/null; return; fi
    venv_works || "$(find_python)" -c 'import ensurepip, venv' 2>/dev/null
}

need() {
    local pair missing=()
    venv_works || set -- "venv=$(find_python)-venv" "$@"
    for pair in "$@"; do
        has "${pair%%=*}" && continue
        case " ${missing[*]-} " in *" ${pair#*=} "*) ;; *) missing+=("${pair#*=}") ;; esac
    done
    [ "${#missing[@]}" -gt 0 ] || return 0
    install_packages "${missing[@]}"
    hash -r
    for pair in "$@"; do
        has "${pair%%=*}" || die "${pair%%=*} is still missing; it comes with the package ${pair#*=}"
    done
}

# --- the virtual environment ------------------------------------------------------------------------------------

find_python() {
    local candidate
    for candidate in python3 python3.14 python3.13 python3.12 python3.11; do
        if "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            printf '%s' "$candidate"
            return 0
        fi
    done
    return 1
}

venv_works() {
    "$python" -c 'import sys, pip; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1
}

create_venv() {
    local base
    base=$(find_python)
    say "Creating the virtual environment ${venv#"$root"/} with $("$base" --version)"
    quietly "$base" -m venv --clear "$venv" || die "could not create $venv"
}

# What an environment was made from: another content of any of these means installing again.
venv_key() {
    printf '%s %s %s' "$(sha256sum <"$root/pyproject.toml" | cut -d' ' -f1)" \
        "$("$python" -c 'import platform; print(platform.python_version())')" "$root"
}

setup_venv() {
    local stamp key='' extras='' extra wanted lock
    stamp=$venv/.mk2dbus-setup  # first line: the key; second: the extras that are in
    export PIP_DISABLE_PIP_VERSION_CHECK=1

    # Two scripts at once must not install into one environment.
    exec {lock}<"$root/pyproject.toml"
    if command -v flock >/dev/null; then flock "$lock"; fi

    venv_works || create_venv
    if [ -f "$stamp" ]; then { read -r key; read -r extras; } <"$stamp" || true; fi
    wanted=$extras
    for extra in "$@"; do
        case " $wanted " in *" $extra "*) ;; *) wanted="$wanted $extra" ;; esac
    done
    wanted=${wanted# }
    if [ "$key" != "$(venv_key)" ] || [ "$wanted" != "$extras" ]; then
        say "Installing mk2dbus${wanted:+ [$wanted]} into ${venv#"$root"/} (this takes a moment)"
        rm -f -- "$stamp"
        quietly "$python" -m pip install -q -e "$root${wanted:+[${wanted// /,}]}" \
            || die "pip could not install what mk2dbus needs (see above); is there a way to https://pypi.org?"
        printf '%s\n%s\n' "$(venv_key)" "$wanted" >"$stamp"
    fi
    exec {lock}<&-
}
