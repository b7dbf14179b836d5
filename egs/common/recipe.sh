# Sourced by recipes: which Python, the commands, and which stages run. Sets `root` and `python`.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/../.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python
  [ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

moe_asr() { "$python" -m moe_asr.cli "$@"; }
lang() { "$python" "$root/lang/$1.py" "${@:2}"; }  # lang make_g --lang DIR ...
runs() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
say() { printf '\n== stage %s: %s\n' "$1" "$2"; }
usage() { sed -n '2,/^[^#]/{/^#/p}' "$0"; }  # the comment at the head of the recipe
folder() { mkdir -p "$1" && cd "$1" && pwd; }  # made if need be; its absolute path
existing() {  # existing OPTION PATH: its absolute path
  [ -e "$2" ] || { echo "run.sh: $1 $2: there is no such file or folder" >&2; exit 2; }
  realpath "$2"
}
has_k2() { "$python" -c 'import importlib.util as u, sys; sys.exit(u.find_spec("k2") is None)'; }
