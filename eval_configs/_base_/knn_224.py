# kNN classification on frozen features of central crops, cosine similarity. VICReg, table 8 (seed of the
# 20 and 200 neighbours) and global-local self-distillation (20) say neither how neighbours vote nor how
# pictures are cropped: votes of exp(cosine / 0.07) are DINO's (2104.14294), the crop is that of linear
# evaluation (VICRegL, appendix D.1).
data = dict(crop=224, resize=(256, 256))
knn = dict(ks=[10, 20, 100, 200], temperature=0.07)
sweep = dict(run_seed=0, holdout=0.1)
profiles = dict(paper=dict(), ci=dict(knn=dict(ks=[10, 20])))
