#!/bin/sh
# Rate and distortion of a codec beside Opus and Lyra V2, on 20 held-out sounds and 20 held-out phrases of speech:
#   tests/benchmarks/rates.sh MODEL SOUNDS_DIR SPEECH_DIR LYRA_DIR OUTPUT_DIR
set -e
model=$1 sounds=$2 speech=$3 lyra=$4 output=$5
audiolm evaluate codec "$sounds" --model "$model" --kbps 2 --kbps 4 --kbps 6 --lyra "$lyra" --no-listen \
    --plot "$output/sounds.png" -o "$output/sounds.json" --force
audiolm evaluate codec "$speech" --source asterisk --model "$model" --kbps 2 --kbps 4 --kbps 6 --lyra "$lyra" \
    --plot "$output/speech.png" -o "$output/speech.json" --force
