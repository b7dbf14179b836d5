#!/usr/bin/env bash
# LibriSpeech: from the archives to a table of word error rates, in stages. See README.md beside this file.
#
#   run.sh                     all of it: 960 hours, MoE-1B and its dense baseline
#   --source DIR               LibriSpeech as unpacked (default: downloaded, 60 GB)
#   --lm-dir DIR               the files of openslr.org/11 (default: downloaded, 40 MB)
#   --mirror URL               download from this 'resources' folder instead of www.openslr.org's
#   --train-parts "PART ..."   parts to train on (default: all three)
#   --train-lm FILE            train the trigram on this text (may be .gz) instead of taking the published one
#   --systems "NAME ..."       conf/NAME.yaml to train and decode (default: moe_1b dense_225m)
#   --device cpu|cuda          where decoding runs (default: cpu)
#   --memory-limit SIZE        for building the graphs (default: 48GB)
#   --stage N --stop-stage M   run only these stages (with the same other options as before)
#   --exp DIR                  where everything is written (default: exp/librispeech)
#   --tiny                     a tiny model, a few updates, any number of utterances: checks that it runs
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipe/../common/recipe.sh"

stage=0 stop_stage=8 exp=$root/exp/librispeech source="" lm_dir="" mirror=() train_text=""
systems=(moe_1b dense_225m) device=cpu memory=48GB size=full
train_parts=(train-clean-100 train-clean-360 train-other-500)
test_sets=(test-clean test-other)
while [ $# -gt 0 ]; do
  case "$1" in
    --source) source=$(existing "$1" "$2"); shift 2 ;;
    --lm-dir) lm_dir=$(existing "$1" "$2"); shift 2 ;;
    --mirror) mirror=(--base-url "$2"); shift 2 ;;
    --train-parts) read -ra train_parts <<< "$2"; shift 2 ;;
    --train-lm) train_text=$(existing "$1" "$2"); shift 2 ;;
    --systems) read -ra systems <<< "$2"; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --memory-limit) memory=$2; shift 2 ;;
    --stage) stage=$2; shift 2 ;;
    --stop-stage) stop_stage=$2; shift 2 ;;
    --exp) exp=$(folder "$2"); shift 2 ;;
    --tiny) size=tiny; shift ;;
    -h | --help) usage; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done

vocab_size=5000 prune=1e-8 partial=() overrides=() note="" cmvn_cuts=20000
if [ "$size" = tiny ]; then
  exp=$exp/tiny vocab_size=60 prune=1e-4 partial=(--partial) memory=4GB
  note="TINY: a tiny model after a few updates, to see that every stage runs; the rates mean nothing"
  overrides=(--set model.preset=tiny --set data.num_workers=0 --set train.max_steps=12
    --set train.warmup_steps=4 --set train.accumulation_steps=1 --set train.precision=fp32
    --set train.device=cpu --set train.valid_interval=6 --set train.checkpoint_interval=6)
fi
data=$exp/data downloads=$exp/download
parts=("${train_parts[@]}" dev-clean dev-other "${test_sets[@]}")

if runs 0; then
  say 0 "the corpus and the files for language models"
  lm_files=(librispeech-lexicon.txt)
  [ -z "$train_text" ] && lm_files+=(3-gram.pruned.1e-7.arpa.gz)
  if [ -z "$source" ] || [ -z "$lm_dir" ]; then
    wanted=()
    [ -z "$lm_dir" ] && wanted+=(--lm-files "${lm_files[@]}")
    [ -z "$source" ] && wanted+=(--parts "${parts[@]}") || wanted+=(--no-audio)
    moe_asr download-corpus --corpus librispeech --output "$downloads" "${mirror[@]}" "${wanted[@]}"
  fi
fi
source=${source:-$downloads} lm_dir=${lm_dir:-$downloads/lm}

if runs 1; then
  say 1 "manifests"
  moe_asr prepare-corpus --corpus librispeech --source "$source" --output "$data" \
    --parts "${parts[@]}" "${partial[@]}"
fi

if runs 2; then
  say 2 "BPE of $vocab_size pieces; mean and variance of the features"
  lang train_tokenizer --kind bpe --text "$data/text_train.txt" --vocab-size "$vocab_size" \
    --output "$exp/bpe"
  moe_asr compute-cmvn --manifest "$data/cuts_train.jsonl.gz" --max-cuts "$cmvn_cuts" \
    --features "$recipe/conf/${systems[0]}.yaml" --output "$exp/cmvn.json"
fi
