# Multi-label classification on VOC2007 by one linear SVM a class on frozen features of central crops
# (VICReg, table 2, column VOC07, and appendix B: LIBLINEAR, C by cross-validation, pictures centre
# cropped and resized to 224). What VICReg does not say is that of Goyal et al. 2019 (1905.01235) and
# of its code: every C of 2^-19 ... 2^-4 and 10^-7 ... 10^2, three folds, pictures with the class weigh
# twice, vectors of length 1, squared hinge, at most 2,000 passes. Ours: pictures in which all objects
# of a class are difficult are left out of its training too (theirs: negatives); VOC2007's own 11-point
# AP (theirs: the area, `map_area` in the record); the central square, where VISSL squeezes the whole
# picture to 224 x 224.
protocol = dict(
    name='voc07_svm',
    version=2,  # 1 had the recalls of numpy's arange, of which 0.3, 0.6 and 0.7 are one bit too large
    kind='classification_svm_probe',
    title='Linear SVMs, VOC07 classification',
    tables=[],
    source='VICReg, table 2 and appendix B; Goyal et al. 2019',
    cost='paper: about an hour on 8 CPU cores after the features; ci: about 2 minutes on 2 CPU cores')
data = dict(dataset='voc_labels', variant='voc07', crop=224, resize=224)
svm = dict(
    costs=[
        *[2.0**power for power in range(-19, -3)],
        *[10.0**power for power in range(-7, 3)]],
    folds=3,
    positive_weight=2.0,
    max_iter=2000)
sweep = dict(run_seed=0, holdout=0.1)
profiles = dict(paper=dict(), ci=dict(svm=dict(costs=[0.01, 0.1, 1.0, 10.0])))
