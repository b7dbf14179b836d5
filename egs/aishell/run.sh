#!/usr/bin/env bash
# AISHELL-1: from the archives to a table of character error rates, in stages. See README.md beside this file.
#
#   run.sh                     all of it: 150 hours, MoE-1B and its dense baseline
#   --source DIR               the folder of data_aishell/ and resource_aishell/ (default: downloaded, 15 GB)
#   --systems "NAME ..."       conf/NAME.yaml to train and decode (default: moe_1b dense_225m)
#   --device cpu|cuda          where decoding runs (default: cpu; training takes a GPU)
#   --memory-limit SIZE        for building the graphs (default: 80 % of what is free)
#   --mirror URL               download from this folder of 'resources' instead of www.openslr.org's
#   --stage N --stop-stage M   run only these stages (with the same other options as before)
#   --exp DIR                  where everything is written (default: exp/aishell)
#   --tiny                     a tiny model, a few updates, as few utterances as there are: checks that it runs
#
# What is up to date is not done again, but for decoding; a training that was cut is continued.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipe/../run_lib.sh"

stage=0 stop_stage=8 exp=$root/exp/aishell size=full device=cpu memory=() corpus="" mirror=()
systems=(moe_1b dense_225m)
while [ $# -gt 0 ]; do
  case "$1" in
    --source) corpus=$(existing "$1" "$2"); shift 2 ;;
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

num_sentences=1000 prune=1e-8 partial=() overrides=() note=""
if [ "$size" = tiny ]; then
  exp=$exp/tiny
  num_sentences=20 prune=1e-4 partial=(--partial)
  note="TINY: a tiny model after a few updates, to see that every stage runs; the rates mean nothing"
  overrides=(--set model.preset=tiny --set data.num_workers=0 --set train.device=cpu
    --set train.precision=fp32 --set train.accumulation_steps=1 --set train.max_steps=12
    --set train.warmup_steps=4 --set train.valid_interval=6 --set train.checkpoint_interval=6)
fi
data=$exp/data arpa=$exp/lm/3gram.arpa

if runs 0; then
  say 0 "the corpus"
  if [ -z "$corpus" ]; then
    moe_asr download-corpus --corpus aishell --output "$exp/download" "${mirror[@]}"
  fi
fi
corpus=${corpus:-$exp/download/aishell}

if runs 1; then
  say 1 "manifests"
  moe_asr prepare-corpus --corpus aishell --source "$corpus" --output "$data" "${partial[@]}"
fi

if runs 2; then
  say 2 "the characters of the training transcripts; mean and variance of the features"
  lang train_tokenizer --kind char --manifest "$data/cuts_train.jsonl.gz" --output "$exp/char"
  moe_asr compute-cmvn --manifest "$data/cuts_train.jsonl.gz" --max-cuts 20000 \
    --features "$recipe/conf/${systems[0]}.yaml" --output "$exp/cmvn.json"
fi

if runs 3; then
  say 3 "words, and their language directory"
  "$python" "$recipe/local/make_words.py" --text "$data/text_train.txt" \
    --lexicon "$corpus/resource_aishell/lexicon.txt" --output "$exp/words.txt"
  # the lexicon has words with characters of which there is no speech
  lang prepare_lang --tokenizer "$exp/char" --words "$exp/words.txt" \
    --skip-unspellable "$exp/unspellable.txt" --output "$exp/lang"
fi

if runs 4; then
  say 4 "trigram of the training transcripts, G, HLG; all of it validated"
  lang train_ngram --text "$data/text_train.txt" --vocab "$exp/lang/words.txt" --order 3 \
    --prune "$prune" --output "$arpa"
  lang compute_perplexity --lm "$arpa" --text "$data/text_dev.txt"
  lang make_g --lang "$exp/lang" --arpa "$arpa" --output "$exp/graph_3gram"
  lang build_graph --lang "$exp/lang" --graph "$exp/graph_3gram" "${memory[@]}"
  lang validate_lang --lang "$exp/lang" --graph "$exp/graph_3gram" --text "$data/text_dev.txt" \
    --tokenizer "$exp/char" --num-sentences "$num_sentences"
fi

if runs 5; then
  for system in "${systems[@]}"; do
    say 5 "training: $system"
    moe_asr train --config "$recipe/conf/$system.yaml" "${overrides[@]}" \
      --manifest-train "$data/cuts_train.jsonl.gz" --manifest-dev "$data/cuts_dev.jsonl.gz" \
      --tokenizer "$exp/char" --cmvn "$exp/cmvn.json" --output "$exp/$system"
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
    for test_set in dev test; do
      say 7 "decoding: $system, $test_set"
      moe_asr decode --model "$exp/$system/model" --output "$exp/$system/decode/$test_set" \
        --manifest "$data/cuts_$test_set.jsonl.gz" "${methods[@]}" --mode full --mode chunk16 \
        --streaming --unit char --device "$device"
    done
  done
fi

if runs 8; then
  say 8 "results"
  "$python" "$root/egs/summarize.py" --runs "$exp" --systems "${systems[@]}" --test-sets dev test \
    --note "$note" --output "$exp/summary.json"
fi
