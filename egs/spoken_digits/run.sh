#!/usr/bin/env bash
# Connected digit strings: from recordings to a WER table, in stages. See README.md beside this file.
#
#   run.sh                  the full recipe: MoE, dense, and MoE with one speaker left out
#   run.sh --demo           MoE only, on about ten minutes of training
#   run.sh --tiny           a few updates on a few strings: checks that every stage runs
#   --stage N --stop-stage M   run only these stages (with the same other options as before)
#   --exp DIR               where everything is written (default: exp/spoken_digits)
#   --minutes M             minutes of training for each system (default: conf/*.yaml; with --demo 10)
#   --leave-out SPEAKER     the speaker left out (default: theo, or frank of the synthetic corpus)
#   --synthetic             use synthetic digits even if recordings can be had
#
# The corpus is FSDD, from $FSDD_DIR if set, else downloaded; where neither works digits are synthesised.
# Strings and training are kept and continued; the other stages are quick and done again.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipe/../run_lib.sh"

stage=0 stop_stage=7 size=full exp=$root/exp/spoken_digits leave_out="" minutes="" corpus=()
while [ $# -gt 0 ]; do
  case "$1" in
    --stage) stage=$2; shift 2 ;;
    --stop-stage) stop_stage=$2; shift 2 ;;
    --exp) exp=$(mkdir -p "$2" && cd "$2" && pwd); shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --leave-out) leave_out=$2; shift 2 ;;
    --synthetic) corpus=(--synthetic); shift ;;
    --demo | --tiny) size=${1#--}; shift ;;
    -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done
systems=(moe)
overrides=()
search=(--option all.n=50) # of decoding with a graph
strings=(--num-train 6000 --num-dev 240 --num-test 400)
work=$exp data=$exp
case $size in
  full) systems=(moe dense leave_out) ;;
  demo)
    work=$exp/demo # the strings are those of the full recipe
    minutes=${minutes:-10}
    ;;
  tiny)
    minutes=${minutes:-0.2}
    work=$exp/tiny data=$exp/tiny
    strings=(--num-train 60 --num-dev 12 --num-test 12)
    overrides=(--set model.preset=tiny --set train.max_steps=20
      --set train.valid_interval=10 --set train.checkpoint_interval=10 --set data.num_workers=0)
    search=(--option all.n=5 --option all.output_beam=2 --option all.max_active=100) # untrained: all is near
    ;;
esac
[ -z "$minutes" ] || overrides+=(--set train.max_minutes="$minutes")

# The speaker left out depends on the corpus, which stage 0 finds.
choose_leave_out() {
  [ -n "$leave_out" ] && return
  leave_out=theo
  if grep -q '"corpus": "synthetic"' "$data/data/corpus.json" 2>/dev/null; then leave_out=frank; fi
}
data_of() { [ "$1" = leave_out ] && echo "$data/data_without_$leave_out" || echo "$data/data"; }
conf_of() { [ "$1" = dense ] && echo dense || echo moe; }
[ "$stage" -gt 0 ] && choose_leave_out

if runs 0; then
  say 0 "connected digit strings"
  for system in "${systems[@]}"; do
    [ "$system" = dense ] && continue
    excluded=()
    if [ "$system" = leave_out ]; then
      choose_leave_out
      excluded=(--exclude-speaker "$leave_out")
    fi
    moe_asr prepare-digits --output "$(data_of "$system")" --corpus-dir "$data/corpus" \
      "${strings[@]}" "${corpus[@]}" "${excluded[@]}"
  done
  choose_leave_out
fi

if runs 1; then
  say 1 "tokenizer, and mean and variance of the features"
  for system in "${systems[@]}"; do
    [ "$system" = dense ] && continue
    dir=$(data_of "$system")
    lang train_tokenizer --kind bpe --vocab-size 40 \
      --manifest "$dir/cuts_train.jsonl.gz" --output "$dir/bpe"
    moe_asr compute-cmvn --manifest "$dir/cuts_train.jsonl.gz" --max-cuts 1000 \
      --features "$recipe/conf/moe.yaml" --output "$dir/cmvn.json"
  done
fi

if runs 2; then
  say 2 "HLG: ten-word lexicon, digit loop"
  for system in "${systems[@]}"; do
    [ "$system" = dense ] && continue
    dir=$(data_of "$system")
    moe_asr build-hlg --tokenizer "$dir/bpe" --output "$dir/graph" \
      --words zero,one,two,three,four,five,six,seven,eight,nine
  done
fi

if runs 3; then
  for system in "${systems[@]}"; do
    say 3 "training: $system"
    dir=$(data_of "$system")
    moe_asr train --config "$recipe/conf/$(conf_of "$system").yaml" "${overrides[@]}" \
      --manifest-train "$dir/cuts_train.jsonl.gz" --manifest-dev "$dir/cuts_dev.jsonl.gz" \
      --tokenizer "$dir/bpe" --cmvn "$dir/cmvn.json" --output "$work/$system"
  done
fi

if runs 4; then
  say 4 "averaging the last checkpoints"
  for system in "${systems[@]}"; do
    moe_asr export --checkpoints "$work/$system" --output "$work/$system/model"
  done
fi

if runs 5; then
  for system in "${systems[@]}"; do
    say 5 "scales of the second pass, on the dev set: $system"
    dir=$(data_of "$system")
    moe_asr tune --model "$work/$system/model" --manifest "$dir/cuts_dev.jsonl.gz" --output "$work/$system/scales" \
      --graph "$dir/graph/HLG.safetensors" --mode full --mode chunk16 --streaming "${search[@]}" \
      --method attention_rescoring --method one_best --method mbr --method lattice_attention_rescoring \
      --method attention --grid attention.length_bonus=0,0.3
  done
fi

if runs 6; then
  for system in "${systems[@]}"; do
    say 6 "decoding: $system"
    dir=$(data_of "$system")
    methods=()
    for method in ctc_greedy ctc_prefix_beam attention attention_rescoring one_best mbr \
      lattice_attention_rescoring nbest_oracle lattice_oracle; do
      methods+=(--method "$method")
    done
    on_one_core "$python" -m moe_asr.cli decode --model "$work/$system/model" \
      --output "$work/$system/decode" --manifest "$dir/cuts_test.jsonl.gz" "${methods[@]}" \
      --graph "$dir/graph/HLG.safetensors" --scales "$work/$system/scales" "${search[@]}" \
      --mode full --mode chunk16 --streaming --threads 1
  done
fi

if runs 7; then
  say 7 "results"
  "$python" "$recipe/local/summarize.py" --runs "$work" --corpus "$data/data/corpus.json" \
    --leave-out "$leave_out" --systems "${systems[@]}" --output "$exp/summary.json"
fi
