#!/bin/sh
# Makes the virtual environment and installs a locked set of packages into it: scripts/setup.sh lab|dev|kerberos|base
# A second call with nothing changed does nothing. Each thing that can be wrong gives one line that says what to do.
set -eu

set_name=${1:-lab}
root=$(CDPATH='' cd -- "$(dirname -- "$0")/.." && pwd)
venv=${VENV:-$root/.venv}
lock=$root/requirements/$set_name.txt

fail() {
    echo "gatehouse: $1" >&2
    exit 1
}

find_python() {
    for candidate in ${PYTHON:-} python3.13 python3.12 python3.11 python3 python; do
        if command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
}

[ -f "$lock" ] || fail "there is no requirements/$set_name.txt."

# The stamp names what was installed; "dev" holds all that "lab" does, so it serves for both.
wanted="$set_name $(cksum <"$lock")"
stamp=$venv/.gatehouse-installed
if [ -x "$venv/bin/python" ] && [ -f "$stamp" ]; then
    grep -qxF "$wanted" "$stamp" && exit 0
fi

python=$(find_python)
[ -n "$python" ] || fail "Python 3.11 or newer is needed, and none was found. Install it (Debian 12: apt-get install python3 python3-venv), or set PYTHON to its path."

if [ ! -x "$venv/bin/python" ]; then
    if command -v uv >/dev/null 2>&1; then
        uv venv --quiet --python "$python" "$venv" || fail "the virtual environment could not be made at $venv. Is the folder writable for this user?"
    else
        "$python" -c 'import venv, ensurepip' 2>/dev/null || fail "Python's venv module is missing. Install it (Debian: apt-get install python3-venv) and try again."
        "$python" -m venv "$venv" || fail "the virtual environment could not be made at $venv. Is the folder writable for this user?"
    fi
fi

echo "Installing the locked packages ($set_name) ..."
if command -v uv >/dev/null 2>&1; then
    uv pip install --quiet --python "$venv/bin/python" --require-hashes -r "$lock" || fail "the packages could not be installed. Is the package index reachable?"
else
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$lock" || fail "the packages could not be installed. Is the package index reachable?"
fi
if [ "$set_name" = dev ]; then
    printf '%s\n%s\n' "$wanted" "lab $(cksum <"$root/requirements/lab.txt")" >"$stamp"
elif [ "$set_name" = kerberos ]; then
    printf '%s\n' "$wanted" >>"$stamp"
else
    printf '%s\n' "$wanted" >"$stamp"
fi
