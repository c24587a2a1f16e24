# Shared by the scripts here: a fresh virtual environment from whatever Python >= 3.11 there is.

set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

find_python() {
    local candidate
    for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11; do
        if [ -n "$candidate" ] && command -v "$candidate" >/dev/null 2>&1 &&
            "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then
            echo "$candidate"
            return
        fi
    done
    echo "xmlp needs Python 3.11 or later; set PYTHON to one" >&2
    return 2
}

make_venv() { # FOLDER
    local python
    python=$(find_python)
    if ! "$python" -c 'import ensurepip, venv' 2>/dev/null; then
        echo "$python has no venv module; on Debian: apt-get install python3-venv" >&2
        return 2
    fi
    "$python" -m venv "$1"
}

install_locked() { # VENV NAME PROJECT...: what ci/locked/NAME.txt lists, to the hash, then the project itself
    local pip=("$1/bin/python" -m pip install --quiet --disable-pip-version-check) name=$2
    shift 2
    "${pip[@]}" --require-hashes --requirement "ci/locked/$name.txt"
    "${pip[@]}" --no-deps --no-build-isolation "$@"
}
