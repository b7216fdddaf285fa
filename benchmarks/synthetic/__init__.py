"""Measure what the synthetic faces are worth: labels, zooming, leaks and fairness.

Run from the repository's root; pictures are drawn once and kept in the folder --cache:

    python -m benchmarks.synthetic.cache    --cache CACHE --train 12000 --val 1500 --test 3500 --practice 6400
    python -m benchmarks.synthetic.labels   --cache CACHE --out OUT            # AUs, native and from 48 px; fairness
    python -m benchmarks.synthetic.photos   --cache CACHE --out OUT --photos PHOTOS   # the same reader on photos
    python -m benchmarks.synthetic.zoom     --cache CACHE --out OUT            # what zooming is worth
    python -m benchmarks.synthetic.leak     --cache CACHE --out OUT            # what all but the face tells

Tuning looks at val: `--eval val`. Needs torch, scikit-learn and matplotlib besides the package.
"""
