#!/usr/bin/env bash
# A voice assistant's commands: a grammar writes the sentences, espeak-ng speaks them; from there to a WER
# table, in stages. See README.md beside this file.
#
#   run.sh                  the full recipe: 8 hours of speech, a BPE and a phone system
#   run.sh --demo           2.5 hours and 13 minutes of training, the BPE system only
#   run.sh --tiny           a few updates on a few sentences: checks that every stage runs
#   --stage N --stop-stage M   run only these stages (with the same other options as before)
#   --exp DIR               where everything is written (default: exp/voice_commands)
#   --minutes M             minutes of training for each system (default: 45; with --demo 13)
#
# What is up to date is not done again, but for decoding; a training that was cut is continued.
set -euo pipefail
recipe=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
source "$recipe/../run_lib.sh"

stage=0 stop_stage=10 size=full exp=$root/exp/voice_commands minutes=""
while [ $# -gt 0 ]; do
  case "$1" in
    --stage) stage=$2; shift 2 ;;
    --stop-stage) stop_stage=$2; shift 2 ;;
    --exp) exp=$(mkdir -p "$2" && cd "$2" && pwd); shift 2 ;;
    --minutes) minutes=$2; shift 2 ;;
    --demo | --tiny) size=${1#--}; shift ;;
    -h | --help) usage "${BASH_SOURCE[0]}"; exit 0 ;;
    *) echo "run.sh: unknown option '$1' (see --help)" >&2; exit 2 ;;
  esac
done

units=(bpe phone)
overrides=()
search=(--option all.n=50) # of decoding with a graph
# sentences for the language model; to be spoken, and of these in dev and in test; hours of training, dev, test
lm_sentences=60000 sentences=(14000 600 1000) hours=(7.2 0.3 0.5) bpe_size=60
validation_sentences=1000 pruning=3e-6
work=$exp/full
case $size in
  full) minutes=${minutes:-45} ;;
  demo)
    work=$exp/demo units=(bpe) minutes=${minutes:-13}
    hours=(2.1 0.15 0.25)
    ;;
  tiny)
    work=$exp/tiny minutes=${minutes:-0.2}
    lm_sentences=3000 sentences=(3000 8 8) hours=(0.02 0.004 0.004) validation_sentences=20
    overrides=(--set model.preset=tiny --set train.max_steps=20 --set train.valid_interval=10
      --set train.checkpoint_interval=10 --set data.num_workers=0)
    search=(--option all.n=5 --option all.output_beam=2 --option all.max_active=100) # untrained: all is near
    ;;
esac
text=$work/text data=$work/data
grammar=$recipe/grammar/assistant.gram
grammars=(3gram grammar)
units_dir() { echo "$work/$1"; }   # tokenizer of bpe or phone
lang_dir() { echo "$work/lang_$1"; }
graph_dir() { echo "$work/graph_$1_$2"; } # of units and grammar

if runs 0; then
  say 0 "sentences from the grammar; those of dev and test occur nowhere else"
  lang sample_sentences --grammar "$grammar" --distinct --num "${sentences[0]}" --output "$text/all.txt"
  lang split_sentences --text "$text/all.txt" --num-dev "${sentences[1]}" --num-test "${sentences[2]}" \
    --output "$text"
  lang sample_sentences --grammar "$grammar" --seed 1 --num "$lm_sentences" \
    --exclude "$text/test.txt" --exclude "$text/dev.txt" --output "$text/lm.txt"
fi

if runs 1; then
  say 1 "speech: espeak-ng in many voices, with noise, rooms and levels"
  moe_asr prepare-voice-commands --output "$data" --train-text "$text/train.txt" \
    --dev-text "$text/dev.txt" --test-text "$text/test.txt" \
    --train-hours "${hours[0]}" --dev-hours "${hours[1]}" --test-hours "${hours[2]}"
  moe_asr compute-cmvn --manifest "$data/cuts_train.jsonl.gz" --max-cuts 1000 \
    --features "$recipe/conf/moe.yaml" --output "$data/cmvn.json"
fi

if runs 2; then
  say 2 "units: byte pairs, phones with the pronunciations of several accents"
  lang grammar_info --grammar "$grammar" --words "$work/words.txt"
  for unit in "${units[@]}"; do
    if [ "$unit" = bpe ]; then
      lang train_tokenizer --kind bpe --text "$text/train.txt" --vocab-size "$bpe_size" --output "$(units_dir bpe)"
      lang prepare_lang --tokenizer "$(units_dir bpe)" --words "$work/words.txt" --output "$(lang_dir bpe)"
    else
      moe_asr make-espeak-lexicon --words "$work/words.txt" --manifest "$data/cuts_train.jsonl.gz" \
        --accents training --output "$work/lexiconp.txt"
      lang train_tokenizer --kind phone --lexicon "$work/lexiconp.txt" --lexicon-probabilities \
        --output "$(units_dir phone)"
      lang prepare_lang --tokenizer "$(units_dir phone)" --lexicon "$work/lexiconp.txt" \
        --lexicon-probabilities --output "$(lang_dir phone)"
    fi
  done
fi

if runs 3; then
  say 3 "graphs: a 3-gram, and the grammar itself; a 5-gram to rescore with"
  lang train_ngram --order 3 --text "$text/lm.txt" --vocab "$work/words.txt" --output "$work/lm/3gram.arpa"
  lang train_ngram --order 5 --text "$text/lm.txt" --vocab "$work/words.txt" --output "$work/lm/5gram.arpa"
  for order in 3 5; do lang compute_perplexity --lm "$work/lm/${order}gram.arpa" --text "$text/test.txt"; done
  for unit in "${units[@]}"; do
    for name in "${grammars[@]}"; do
      source_of_g=(--arpa "$work/lm/3gram.arpa")
      [ "$name" = grammar ] && source_of_g=(--grammar "$grammar")
      lang make_g --lang "$(lang_dir "$unit")" "${source_of_g[@]}" --output "$(graph_dir "$unit" "$name")"
      lang build_graph --lang "$(lang_dir "$unit")" --graph "$(graph_dir "$unit" "$name")"
    done
    lang validate_lang --lang "$(lang_dir "$unit")" --text "$text/test.txt" \
      --graph "$(graph_dir "$unit" 3gram)" "$(graph_dir "$unit" grammar)" \
      --tokenizer "$(units_dir "$unit")" --num-sentences "$validation_sentences"
  done
fi

if runs 4; then
  for unit in "${units[@]}"; do
    say 4 "training: $unit, $minutes minutes"
    moe_asr train --config "$recipe/conf/moe.yaml" --set train.max_minutes="$minutes" "${overrides[@]}" \
      --manifest-train "$data/cuts_train.jsonl.gz" --manifest-dev "$data/cuts_dev.jsonl.gz" \
      --tokenizer "$(units_dir "$unit")" --cmvn "$data/cmvn.json" --output "$work/moe_$unit"
  done
fi

if runs 5; then
  say 5 "averaging the last checkpoints"
  for unit in "${units[@]}"; do
    moe_asr export --checkpoints "$work/moe_$unit" --output "$work/moe_$unit/model"
  done
fi

# what is tuned and decoded without a graph, with any, and with that of the 3-gram
no_graph=(ctc_greedy ctc_prefix_beam attention attention_rescoring)
with_graph=(one_best mbr lattice_attention_rescoring nbest_oracle lattice_oracle)
with_ngram=(one_best mbr nbest_lm_rescoring lattice_lm_rescoring lattice_attention_rescoring nbest_oracle lattice_oracle)
# decoding UNIT NAME [tune]: fills `arguments` with the graph and the methods of one decoding
decoding() {
  local unit=$1 name=$2 methods method
  arguments=(--model "$work/moe_$unit/model" --mode full --mode chunk16 --streaming)
  case "$name" in
    greedy) methods=("${no_graph[@]}") ;;
    3gram) methods=("${with_ngram[@]}"); arguments+=(--lm "$work/lm/5gram.arpa") ;;
    *) methods=("${with_graph[@]}") ;;
  esac
  [ "$name" = greedy ] || arguments+=(--graph "$(graph_dir "$unit" "$name")/HLG.safetensors" "${search[@]}")
  for method in "${methods[@]}"; do
    case "${3:-}:$method" in
      tune:ctc_* | tune:*_oracle) ;; # nothing to tune
      # these are run at every point: a coarse grid, as lattices of a weak model are wide
      tune:mbr) arguments+=(--method mbr --grid mbr.acoustic_scale=0.4,1 --grid mbr.lm_scale=0.4,1
        --grid mbr.length_bonus=0,1.5) ;;
      tune:attention) arguments+=(--method attention --grid attention.length_bonus=0,0.3) ;;
      tune:lattice_lm_rescoring) arguments+=(--method "$method" --grid "$method.lm_scale=0.8,1,1.2,1.4"
        --grid "$method.length_bonus=0,2") ;;
      *) arguments+=(--method "$method") ;;
    esac
  done
}

if runs 6; then
  for unit in "${units[@]}"; do
    for name in greedy "${grammars[@]}"; do
      say 6 "scales, on the dev set: $unit, $name"
      decoding "$unit" "$name" tune
      moe_asr tune "${arguments[@]}" --manifest "$data/cuts_dev.jsonl.gz" --output "$work/moe_$unit/scales_$name"
    done
  done
fi

if runs 7; then
  for unit in "${units[@]}"; do
    for name in greedy "${grammars[@]}"; do
      say 7 "decoding: $unit, $name"
      decoding "$unit" "$name"
      [ "$name" = greedy ] || arguments+=(--lattices --ctm)
      on_one_core "$python" -m moe_asr.cli decode "${arguments[@]}" --scales "$work/moe_$unit/scales_$name" \
        --manifest "$data/cuts_test.jsonl.gz" --threads 1 --output "$work/moe_$unit/decode_$name"
    done
  done
fi

if runs 8; then
  for unit in "${units[@]}"; do
    say 8 "lattices and word times: $unit, 3gram, full context"
    decoded=$work/moe_$unit/decode_3gram/full
    moe_asr score-lattices --lattices "$decoded/lattices_one_best.safetensors" --ref "$decoded/ref.txt" \
      --output "$decoded/lattices"
    moe_asr align --model "$work/moe_$unit/model" --manifest "$data/cuts_dev.jsonl.gz" \
      --fit-correction "$work/moe_$unit/times.json" --output "$work/moe_$unit/align_dev"
    moe_asr align --model "$work/moe_$unit/model" --manifest "$data/cuts_test.jsonl.gz" \
      --correction "$work/moe_$unit/times.json" --output "$work/moe_$unit/align_test"
    for found in "$work/moe_$unit/align_test/alignments.ctm" "$decoded/hyp_one_best.ctm"; do
      moe_asr score-times "$data/cuts_test.jsonl.gz" "$found" --output "${found%.ctm}_times"
    done
  done
fi

if runs 9; then
  say 9 "results"
  "$python" "$recipe/local/summarize.py" --runs "$work" --units "${units[@]}" --grammars "${grammars[@]}" \
    --manifest "$data/cuts_test.jsonl.gz" --output "$work/summary.json"
fi

if runs 10; then
  unit=${units[0]} model=$work/moe_${units[0]}/int8 graph=$(graph_dir "${units[0]}" pruned)
  streaming=chunk16-left8 # as recognisers decode by default: 640 ms, 5 s of left context
  say 10 "release: int8 weights and a pruned 3-gram of the $unit system, tuned and measured together"
  moe_asr convert-model --model "$work/moe_$unit/model" --storage int8 --output "$model"
  lang train_ngram --order 3 --text "$text/lm.txt" --vocab "$work/words.txt" --prune "$pruning" \
    --output "$work/lm_pruned/3gram.arpa"
  lang make_g --lang "$(lang_dir "$unit")" --arpa "$work/lm_pruned/3gram.arpa" --output "$graph"
  lang build_graph --lang "$(lang_dir "$unit")" --graph "$graph"
  arguments=(--model "$model" --graph "$graph/LG.safetensors" --streaming "${search[@]}"
    --method one_best --method lattice_attention_rescoring)
  moe_asr tune "${arguments[@]}" --mode "$streaming" --manifest "$data/cuts_dev.jsonl.gz" \
    --output "$work/moe_$unit/scales_release"
  on_one_core "$python" -m moe_asr.cli decode "${arguments[@]}" --mode full --mode "$streaming" \
    --mode chunk8-left16 --mode chunk4-left32 --scales "$work/moe_$unit/scales_release" --scales-mode "$streaming" \
    --manifest "$data/cuts_test.jsonl.gz" --threads 1 --output "$work/moe_$unit/decode_release"
  moe_asr release --model "$model" --graph "$graph/LG.safetensors" --about "$recipe/local/release.yaml" \
    --scales "$work/moe_$unit/scales_release" --mode "$streaming" "${search[@]}" \
    --correction "$work/moe_$unit/times.json" --chunk-sizes 16 8 4 --results "$work/moe_$unit/decode_release" \
    --output "$work/release"
fi
