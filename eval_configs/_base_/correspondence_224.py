# Correspondence of two views of a picture (global-local self-distillation, section 4.7): "augmentations
# are always cropped and resized in the same manner", so every cell of one map has its exact cell in the
# other; the score is the share of cells whose most similar cell is that one, and the distance between
# the two beside it. The paper says no more. Taken from its released training code, which is DINO's
# (main_global_local_self_distillation.py, datasets/build.py): 224 px, crop scale 0.4-1, bicubic, and
# flip, jitter, grey, blur and solarisation with these chances. Ours: that all of them stay in the
# evaluation, a flip of each view by itself among them, one pair a picture and draw, three draws
# (seeds), the direction from the second view to the first (figure 5), cosine (equation 4), the mean
# over all cells, the view's side as the unit of distance, and the trunk's last map. `holdout` has no use.
data = dict()
views = dict(
    size=224,
    pairs=1,
    scale=(0.4, 1.0),
    flip=0.5,
    jitter=(0.4, 0.4, 0.2, 0.1),
    jitter_chance=0.8,
    grey=0.2,
    blur=(1.0, 0.1),
    solarise=(0.0, 0.2))
sweep = dict(run_seed=0, holdout=0.1, seeds=3)
profiles = dict(paper=dict(), ci={'sweep.seeds': 1})
