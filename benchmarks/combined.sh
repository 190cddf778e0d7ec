#!/bin/sh
# All heads, their ensembles, and "none of these" on CATH: what docs/alignment.md and docs/strangers.md say of them.
#
#     benchmarks/combined.sh cath.csv WORK [encoder]      # id, sequence, label, split; hours on one core, resumable
#
# Choices are made on the validation part; the test part is asked by `compare` and `open_set.py`, once each.
set -e
data=$1
place=$2
encoder=${3:-bundled}
here=$(dirname "$0")
commit=$(git -C "$here" rev-parse --short HEAD)
heads=linear,knn,mlp,lightgbm,align,homology,ensemble
[ -d "$place" ] || esmcls embed "$data" -w "$place" --encoder "$encoder"
esmcls compare -w "$place" --heads "$heads" --name combined
python "$here/keep_comparison.py" "$place" "cath_${encoder}_aligned" --against homology --commit "$commit" \
    --command "benchmarks/combined.sh: esmcls compare --heads $heads"
python "$here/open_set.py" "$place" --name "cath_${encoder}_aligned" --heads linear,knn,align,homology
