#!/bin/sh
# The low-data study of global-local self-distillation (section 4.5.1): pretraining sees 10, 20, 50, 100
# and 200 pictures of each class, kNN with k = 20 scores each backbone against the whole training set.
# docs/low_data.md explains it. The same command goes on where it was stopped; finished parts are skipped.
#
#   examples/low_data.sh DATA OUT      DATA holds train/CLASS/ and val/CLASS/
#
# Words of the environment:
#   SIZES     pictures a class                                   10 20 50 100 200
#   RECIPE    of `vicregl-bench ls recipes`                      resnet50
#   TASK      imagenet_knn, folder_knn or NAME_knn               folder_knn
#   SEED      of the lists of pictures                           0
#   DEVICE    auto, cpu, cuda                                    auto
#   PRETRAIN  more words for `vicregl-bench pretrain`, such as --set criterion.alpha=1
#   EVALUATE  more words for `vicregl-bench run`, such as --precision fp32
set -eu

if [ "$#" -ne 2 ]; then
    echo "usage: $0 DATA OUT (DATA holds train/CLASS/ and val/CLASS/)" >&2
    exit 2
fi
data=$1 out=$2
device=${DEVICE:-auto} task=${TASK:-folder_knn}

for size in ${SIZES:-10 20 50 100 200}; do
    run=$out/pretrain/$size
    echo "== $size pictures a class" >&2
    # PRETRAIN and EVALUATE are lists of words
    # shellcheck disable=SC2086
    vicregl-bench pretrain --recipe "${RECIPE:-resnet50}" --data "$data/train" --subset "$size" \
        --set "data.subset_seed=${SEED:-0}" --out "$run" --device "$device" ${PRETRAIN:-}
    # shellcheck disable=SC2086
    vicregl-bench run --ckpt "$run/backbone.pth" --task "$task" --set "knn.ks=[20]" \
        --data-root "$data" --out "$out/records" --device "$device" ${EVALUATE:-}
done
vicregl-bench ls records --records "$out/records"
