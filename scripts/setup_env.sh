#!/usr/bin/env bash
# Makes one of the two environments, with every version pinned, or leaves it as it is when it is up to date:
#   setup_env.sh k2 DIR        Python 3.10, torch 1.13.1, k2; where no Python 3.10 can be had it says so
#                              and makes the current environment in DIR instead
#   setup_env.sh current DIR   Python 3.11 or later, torch 2.13, no k2
# Nothing needs to be activated before or after: run DIR/bin/python.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
root=$PWD
wanted=${1:?usage: setup_env.sh k2|current DIR}
dir=${2:?usage: setup_env.sh k2|current DIR}
case "$dir" in /*) ;; *) dir=$root/$dir ;; esac
stamp=$dir/moe-asr-environment
unset PYTHONHOME PYTHONPATH

# pip 23.0.1 comes with Python 3.10. It is pinned because install_k2_wheel needs it.
k2_pip=23.0.1
k2_version=1.23.4

say() { echo "setup: $*"; }
die() { echo "setup: error: $*" >&2; exit 1; }

# runs PYTHON MINOR: whether PYTHON starts (a pyenv shim may not), is CPython 3.MINOR and can make environments.
runs() {
  "$1" -c "import sys, venv, ensurepip
raise SystemExit(sys.implementation.name != 'cpython' or sys.version_info[:2] != (3, $2))" >/dev/null 2>&1
}

# find_python MINOR: prints the path of a Python 3.MINOR that runs; fails when there is none.
find_python() {
  local minor=$1 folder python candidates=()
  while IFS= read -r python; do candidates+=("$python"); done < <(
    type -ap "python3.$minor" python3 python
    for folder in "${PYENV_ROOT:-}" "${HOME:-}/.pyenv"; do
      ls -d "$folder/versions/3.$minor."*/bin/python 2>/dev/null | sort -rV
    done
    if command -v uv >/dev/null; then
      uv python find "3.$minor" 2>/dev/null ||
        { uv python install -q "3.$minor" >&2 && uv python find "3.$minor"; } || true
    fi
  )
  for python in "${candidates[@]}"; do
    if runs "$python" "$minor"; then
      "$python" -c 'import sys; print(sys.executable)'
      return 0
    fi
  done
  return 1
}

# The environment's name and a hash of all that decides what is in it: the pins, this script, and where
# it lies, because an environment that is copied or moved still points at the old checkout.
fingerprint() {
  local hash
  hash=$({
    awk '/^\[/ { keep = !/^\[+tool\./ || /^\[tool\.setuptools/ } keep' pyproject.toml
    cat scripts/constraints.txt scripts/setup_env.sh
    echo "$root $dir"
  } | cksum)
  echo "$1 ${hash// /-}"
}

up_to_date() { [ -x "$dir/bin/python" ] && [ "$(cat "$stamp" 2>/dev/null)" = "$(fingerprint "$1")" ]; }

# k2 is on the package index as k2-1.23.4-py3.9-none-any.whl, -py3.10-, -py3.11- and so on. A dot in a wheel's tag
# joins alternatives, so each reads as "any Python 3": old pips take the py3.9 one, whose compiled part does
# not import on 3.10, and pip 24.1 and later reject these file names. Asked for interpreter "1", version "0",
# an old pip takes only what carries the tag "10", and that is the py3.10 wheel.
download_k2_wheel() {
  "$dir/bin/python" -m pip download -qq --no-deps --only-binary=:all: --ignore-requires-python \
    --implementation 1 --python-version 0 "k2==$k2_version" -d "$1"
}

check() {
  local problems
  problems=$("$dir/bin/python" -m pip check) || die "packages in $dir disagree: $problems"
  "$dir/bin/python" - "$1" <<'PYTHON' || die "the environment in $dir does not work; see the line above"
import sys

modules = ["torch", "lhotse", "moe_asr"] + (["k2"] if sys.argv[1] == "k2" else [])
for module in modules:
    try:
        __import__(module)
    except Exception as error:
        sys.exit(f"setup: import {module} fails: {type(error).__name__}: {error}")
PYTHON
}

# install NAME PYTHON: makes DIR anew. Everything goes through one resolver call: a later pip install of
# something that asks for torch 2 would silently replace torch, and k2 would no longer import.
install() {
  local name=$1 python=$2 pip requirements=()
  say "making $dir with $("$python" --version) at $python; this takes a minute or two"
  "$python" -m venv --clear "$dir"
  pip=("$dir/bin/python" -m pip --disable-pip-version-check)
  if [ "$name" = k2 ]; then
    case "$("${pip[@]}" --version)" in
      "pip $k2_pip "*) ;;
      *) "${pip[@]}" install -qq "pip==$k2_pip" ;;
    esac
    download_k2_wheel "$dir/wheels" || die "cannot download the Python 3.10 wheel of k2 $k2_version"
    requirements+=("$dir"/wheels/k2-*.whl)
  fi
  "${pip[@]}" install -qq -c scripts/constraints.txt "${requirements[@]}" -e ".[$name,synthetic,dev]"
  check "$name"
  rm -rf "$dir/wheels"
  # Last of all and in one step, so that an interrupted installation starts over.
  fingerprint "$name" >"$stamp.new"
  mv "$stamp.new" "$stamp"
  say "$dir is ready ($SECONDS s)"
}

main() {
  local name=$1 python='' minor minors=(11 12 13 14)
  # One set-up at a time. The lock lies on this script: it stays when DIR is emptied.
  if command -v flock >/dev/null; then
    exec 9<scripts/setup_env.sh
    flock -n 9 || { say "waiting for another set-up to end"; flock 9; }
  fi
  case "$name" in
    k2)
      up_to_date k2 && return
      if ! python=$(find_python 10); then
        say "no Python 3.10 found (python3.10, pyenv, uv): $dir goes without k2, on the current Python"
        name=current
        minors=("$(python3 -c 'import sys; print(sys.version_info[1])')" "${minors[@]}")
      fi ;;
    current) ;;
    *) die "unknown environment '$name', expected k2 or current" ;;
  esac
  if [ "$name" = current ]; then
    up_to_date current && return
    for minor in "${minors[@]}"; do
      if [ "$minor" -ge 11 ] && python=$(find_python "$minor"); then break; fi
    done
    [ -n "$python" ] || die "no Python 3.11 or later found (python3.11, pyenv, uv)"
  fi
  install "$name" "$python"
}

main "$wanted"
