#!/usr/bin/env bash
# Connected digit strings: from recordings to a WER table, in stages. See README.md beside this file.
#
#   run.sh                  the full recipe: MoE, dense, and MoE with one speaker left out
#   run.sh --demo           MoE only, on about ten minutes of training
#   run.sh --tiny           a few updates on a few strings: checks that every stage runs
#   --stage N --stop-stage M   run only these stages; finished work is never done again
#   --exp DIR               where everything is written (default: exp/spoken_digits)
#
# The corpus is FSDD, from $FSDD_DIR if set, else downloaded; where neither works digits are synthesised.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
cd "$recipe/../.."

stage=0 stop_stage=6 size=full exp=exp/spoken_digits leave_out=theo corpus=()
while [ $# -gt 0 ]; do
  case "$1" in
    --stage) stage=$2; shift 2 ;;
    --stop-stage) stop_stage=$2; shift 2 ;;
    --exp) exp=$2; shift 2 ;;
    --leave-out) leave_out=$2; shift 2 ;;
    --synthetic) corpus=(--synthetic); shift ;;
    --demo | --tiny) size=${1#--}; shift ;;
    -h | --help) sed -n '2,11p' "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done
python=${PYTHON:-python}
moe_asr() { "$python" -m moe_asr.cli "$@"; }
runs() { [ "$stage" -le "$1" ] && [ "$stop_stage" -ge "$1" ]; }
say() { printf '\n== stage %s: %s\n' "$1" "$2"; }

systems=(moe)
overrides=()
strings=(--num-train 6000 --num-dev 200 --num-test 400)
case $size in
  full) systems=(moe dense leave_out) ;;
  demo) overrides=(--set train.max_minutes=10) ;;
  tiny)
    strings=(--num-train 60 --num-dev 12 --num-test 12)
    overrides=(--set model.preset=tiny --set train.max_minutes=0.2 --set train.max_steps=20
      --set train.valid_interval=10 --set train.checkpoint_interval=10 --set data.num_workers=0)
    ;;
esac

data_of() { [ "$1" = leave_out ] && echo "$exp/data_without_$leave_out" || echo "$exp/data"; }
conf_of() { [ "$1" = dense ] && echo dense || echo moe; }

if runs 0; then
  say 0 "connected digit strings"
  for system in "${systems[@]}"; do
    [ "$system" = dense ] && continue
    excluded=()
    [ "$system" = leave_out ] && excluded=(--exclude-speaker "$leave_out")
    moe_asr prepare-digits --output "$(data_of "$system")" "${strings[@]}" \
      "${corpus[@]}" "${excluded[@]}"
  done
fi

if runs 1; then
  say 1 "tokenizer, and mean and variance of the features"
  for system in "${systems[@]}"; do
    [ "$system" = dense ] && continue
    data=$(data_of "$system")
    moe_asr train-bpe --manifest "$data/cuts_train.jsonl.gz" --vocab-size 40 --output "$data/bpe"
    moe_asr compute-cmvn --manifest "$data/cuts_train.jsonl.gz" --max-cuts 1000 \
      --features "$recipe/conf/moe.yaml" \
      --output "$data/cmvn.json"
  done
fi

if runs 2; then
  say 2 "HLG: ten-word lexicon, digit loop"
  if "$python" -c 'import k2' 2>/dev/null; then
    for system in "${systems[@]}"; do
      [ "$system" = dense ] && continue
      moe_asr build-hlg --tokenizer "$(data_of "$system")/bpe" --output "$(data_of "$system")/graph" \
        --words zero,one,two,three,four,five,six,seven,eight,nine
    done
  else
    echo "k2 is not installed for $("$python" --version): no HLG, only greedy results"
  fi
fi

if runs 3; then
  for system in "${systems[@]}"; do
    say 3 "training: $system"
    data=$(data_of "$system")
    moe_asr train --config "$recipe/conf/$(conf_of "$system").yaml" "${overrides[@]}" \
      --manifest-train "$data/cuts_train.jsonl.gz" --manifest-dev "$data/cuts_dev.jsonl.gz" \
      --tokenizer "$data/bpe" --cmvn "$data/cmvn.json" --output "$exp/$system"
  done
fi

if runs 4; then
  say 4 "averaging the last checkpoints"
  for system in "${systems[@]}"; do
    moe_asr export --checkpoints "$exp/$system" --output "$exp/$system/model"
  done
fi

if runs 5; then
  for system in "${systems[@]}"; do
    say 5 "decoding: $system"
    graph=$(data_of "$system")/graph/HLG.safetensors
    methods=(--method ctc_greedy)
    [ -f "$graph" ] && methods+=(--method one_best --graph "$graph")
    moe_asr decode --model "$exp/$system/model" --output "$exp/$system/decode" --threads 1 \
      --manifest "$(data_of "$system")/cuts_test.jsonl.gz" "${methods[@]}" --mode full --mode chunk16 --streaming
  done
fi

if runs 6; then
  say 6 "results"
  "$python" "$recipe/local/summarize.py" --exp "$exp" --corpus "$exp/data/corpus.json" \
    --leave-out "$leave_out" --systems "${systems[@]}"
fi
