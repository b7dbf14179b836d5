# What every recipe's run.sh shares; sourced by it. Stages, the Python to run, and the commands.
# Expects `stage` and `stop_stage`, and gives `root`, `python` and the functions below.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
python=${PYTHON:-}
if [ -z "$python" ]; then
  python=python
  [ -x "$root/.venv/bin/python" ] && python=$root/.venv/bin/python
fi
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}

# moe_asr COMMAND ...: the moe-asr command; lang SCRIPT ...: a script of lang/, by its name without .py
moe_asr() { "$python" -m moe_asr.cli "$@"; }
lang() { local script=$1; shift; "$python" "$root/lang/$script.py" "$@"; }

# runs N: whether stage N is among those asked for
runs() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
say() { printf '\n== stage %s: %s\n' "$1" "$2"; }

# on_one_core COMMAND ...: k2 and BLAS may use threads of their own: one core is what makes RTFs comparable
on_one_core() {
  local core
  core=$("$python" -c 'import os; print(min(os.sched_getaffinity(0)))' 2>/dev/null || true)
  if [ -n "$core" ] && taskset -c "$core" true 2>/dev/null; then
    taskset -c "$core" "$@"
  else
    "$@"
  fi
}

# usage FILE: prints the comment that FILE begins with, without the first line
usage() { sed -n '2,/^[^#]/{s/^# \{0,1\}//p}' "$1"; }

# existing OPTION PATH: the absolute path of a file or folder that an option names
existing() {
  if [ ! -e "$2" ]; then
    echo "run.sh: $1 $2: there is no such file or folder" >&2
    return 2
  fi
  realpath "$2"
}
