#!/bin/sh
# Measures pfam and function5000 with the bundled encoder: embeddings alone, and everything. To be run again for another
# version of it:
#
#     sh benchmarks/measure_families.sh ../shared/data WORK [PART]
#
# With PART, such as 8, function5000 is every 8th group of its classes (see rare_classes.py), which takes minutes and not
# hours. Both comparisons end in benchmarks/results/compare_<set>_bundled.json; one that was stopped goes on where it was.
set -eu
data=$1
work=$2
every=${3:-1}
here=$(dirname "$0")
heads=linear,knn,mlp,lightgbm,align,homology,ensemble
commit=$(git -C "$here" rev-parse --short HEAD)

measure() { # name, workspace
    esmcls compare -w "$2" --encoders bundled --heads $heads --name measured || [ $? = 3 ]
    python "$here/keep_comparison.py" "$2" "$1_bundled" --commit "$commit" \
        --command "sh benchmarks/measure_families.sh DATA WORK $every"
}

esmcls embed "$data/pfam/random_split" -w "$work/pfam" --encoder bundled --residues
measure pfam "$work/pfam"

if [ "$every" = 1 ]; then
    esmcls embed "$data/function5000/train.csv.gz" --test "$data/function5000/test.csv.gz" \
        -w "$work/function5000" --encoder bundled --residues
    measure function5000 "$work/function5000"
else
    python "$here/rare_classes.py" part "$data/function5000" --every "$every" --to "$work/part"
    esmcls embed "$work/part/train.csv" --test "$work/part/test.csv" -w "$work/function5000-part" \
        --encoder bundled --residues
    measure "function5000_every_$every" "$work/function5000-part"
fi
