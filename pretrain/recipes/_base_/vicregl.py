# What every VICRegL recipe of the paper shares (VICRegL, section 3.3; VICReg, section 4.2).
criterion = dict(
    name="vicregl",
    alpha=0.75,  # tables 1 and 2; 0.9 and 1 (VICReg) are the other rows
    preset="paper",
    invariance=25.0,
    variance=25.0,
    covariance=1.0,
    num_matches=(20, 4),
    feature_top_gamma=None,  # the preset's own
    matching=("location", "feature"),
    local_criterion="VIC",
    temperature=0.1,  # of simclr only: Chen et al. 2020; VICRegL gives none
)
data = dict(
    subset=None,
    subset_seed=0,
    upscale=False,  # ours: take pictures smaller than the views
    unreadable=0.01,  # ours: share of unreadable pictures that is skipped
)
run = dict(
    seed=0,
    precision="fp32",
    accumulate=1,  # ours: steps of the loader per step of the optimiser
    clip_grad=None,
    log_every=10,
    watch_every=50,
    save_every=200,
    probe_every=0,
    probe_pictures=2000,
    probe_k=20,
)
