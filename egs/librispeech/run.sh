#!/usr/bin/env bash
# LibriSpeech: from the archives to a table of word error rates, in stages. See README.md beside this file.
#
#   run.sh                     all of it: 960 hours, MoE-1B and its dense baseline
#   --source DIR               LibriSpeech as unpacked (default: downloaded, 60 GB)
#   --lm-dir DIR               files of openslr.org/11: vocabulary, trigram (default: downloaded, 36 MB)
#   --train-lm FILE            train the trigram on this text (.txt or .txt.gz) instead of taking the published one
#   --train-parts "PART ..."   parts to train on (default: train-clean-100 train-clean-360 train-other-500)
#   --systems "NAME ..."       conf/NAME.yaml to train and decode (default: moe_1b dense_225m)
#   --device cpu|cuda          where decoding runs (default: cpu; training takes a GPU)
#   --memory-limit SIZE        for building the graphs (default: 80 % of what is free)
#   --mirror URL               download from this folder of 'resources' instead of www.openslr.org's
#   --stage N --stop-stage M   run only these stages (with the same other options as before)
#   --exp DIR                  where everything is written (default: exp/librispeech)
#   --tiny                     a tiny model, a few updates, as few utterances as there are: checks that it runs
#
# What is up to date is not done again, but for decoding; a training that was cut is continued.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipe/../run_lib.sh"

stage=0 stop_stage=8 exp=$root/exp/librispeech size=full device=cpu memory=()
corpus="" lm_dir="" train_text="" mirror=()
systems=(moe_1b dense_225m)
train_parts=(train-clean-100 train-clean-360 train-other-500)
while [ $# -gt 0 ]; do
  case "$1" in
    --source) corpus=$(existing "$1" "$2"); shift 2 ;;
    --lm-dir) lm_dir=$(existing "$1" "$2"); shift 2 ;;
    --train-lm) train_text=$(existing "$1" "$2"); shift 2 ;;
    --train-parts) read -ra train_parts <<< "$2"; shift 2 ;;
    --systems) read -ra systems <<< "$2"; shift 2 ;;
    --device) device=$2; shift 2 ;;
    --memory-limit) memory=(--memory-limit "$2"); shift 2 ;;
    --mirror) mirror=(--base-url "$2"); shift 2 ;;
    --stage) stage=$2; shift 2 ;;
    --stop-stage) stop_stage=$2; shift 2 ;;
    --exp) exp=$(mkdir -p "$2" && cd "$2" && pwd); shift 2 ;;
    --tiny) size=tiny; shift ;;
    -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done

parts=("${train_parts[@]}" dev-clean dev-other test-clean test-other)
vocab_size=5000 num_sentences=1000 prune=1e-8 partial=() overrides=() note=""
if [ "$size" = tiny ]; then
  exp=$exp/tiny
  vocab_size=60 num_sentences=20 prune=1e-4 partial=(--partial)
  note="TINY: a tiny model after a few updates, to see that every stage runs; the rates mean nothing"
  overrides=(--set model.preset=tiny --set data.num_workers=0 --set train.device=cpu
    --set train.precision=fp32 --set train.accumulation_steps=1 --set train.max_steps=12
    --set train.warmup_steps=4 --set train.valid_interval=6 --set train.checkpoint_interval=6)
fi
data=$exp/data arpa=$exp/lm/3gram.arpa

if runs 0; then
  say 0 "the corpus, and files for the language model"
  audio=("${parts[@]}") lm_files=(librispeech-vocab.txt 3-gram.pruned.1e-7.arpa.gz)
  [ -z "$train_text" ] || lm_files=(librispeech-vocab.txt)
  [ -z "$corpus" ] || audio=()
  [ -z "$lm_dir" ] || lm_files=()
  if [ -z "$corpus" ] || [ -z "$lm_dir" ]; then
    moe_asr download-corpus --corpus librispeech --output "$exp/download" "${mirror[@]}" \
      --parts "${audio[@]}" --lm-files "${lm_files[@]}"
  fi
fi
corpus=${corpus:-$exp/download} lm_dir=${lm_dir:-$exp/download/lm}
[ -n "$train_text" ] || arpa=$lm_dir/3-gram.pruned.1e-7.arpa.gz

if runs 1; then
  say 1 "manifests"
  moe_asr prepare-corpus --corpus librispeech --source "$corpus" --output "$data" \
    --parts "${parts[@]}" "${partial[@]}"
fi

if runs 2; then
  say 2 "BPE of $vocab_size pieces; mean and variance of the features"
  lang train_tokenizer --kind bpe --text "$data/text_train.txt" --vocab-size "$vocab_size" \
    --output "$exp/bpe"
  moe_asr compute-cmvn --manifest "$data/cuts_train.jsonl.gz" --max-cuts 20000 \
    --features "$recipe/conf/${systems[0]}.yaml" --output "$exp/cmvn.json"
fi

if runs 3; then
  say 3 "language directory of the published vocabulary"
  lang prepare_lang --tokenizer "$exp/bpe" --words "$lm_dir/librispeech-vocab.txt" \
    --output "$exp/lang"
fi

if runs 4; then
  say 4 "trigram, G, HLG; all of it validated"
  if [ -n "$train_text" ]; then
    lang train_ngram --text "$train_text" --vocab "$exp/lang/words.txt" --order 3 \
      --min-counts 1,1,2 --prune "$prune" --output "$arpa"
  fi
  lang compute_perplexity --lm "$arpa" --text "$data/text_dev.txt"
  lang make_g --lang "$exp/lang" --arpa "$arpa" --output "$exp/graph_3gram"
  lang build_graph --lang "$exp/lang" --graph "$exp/graph_3gram" "${memory[@]}"
  lang validate_lang --lang "$exp/lang" --graph "$exp/graph_3gram" --text "$data/text_dev.txt" \
    --tokenizer "$exp/bpe" --num-sentences "$num_sentences"
fi

if runs 5; then
  for system in "${systems[@]}"; do
    say 5 "training: $system"
    moe_asr train --config "$recipe/conf/$system.yaml" "${overrides[@]}" \
      --manifest-train "$data/cuts_train.jsonl.gz" --manifest-dev "$data/cuts_dev.jsonl.gz" \
      --tokenizer "$exp/bpe" --cmvn "$exp/cmvn.json" --output "$exp/$system"
  done
fi

if runs 6; then
  say 6 "averaging the last checkpoints"
  for system in "${systems[@]}"; do
    moe_asr export --checkpoints "$exp/$system" --output "$exp/$system/model"
  done
fi

if runs 7; then
  methods=(--method ctc_greedy --method one_best --graph "$exp/graph_3gram/HLG.safetensors")
  for system in "${systems[@]}"; do
    for test_set in test-clean test-other; do
      say 7 "decoding: $system, $test_set"
      moe_asr decode --model "$exp/$system/model" --output "$exp/$system/decode/$test_set" \
        --manifest "$data/cuts_$test_set.jsonl.gz" "${methods[@]}" --mode full --mode chunk16 \
        --streaming --device "$device"
    done
  done
fi

if runs 8; then
  say 8 "results"
  "$python" "$root/egs/summarize.py" --runs "$exp" --systems "${systems[@]}" \
    --test-sets test-clean test-other --note "$note" --output "$exp/summary.json"
fi
