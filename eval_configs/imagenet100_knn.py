# kNN classification of ImageNet-100 on frozen features (global-local self-distillation, table 3).
# The 100 classes of CMC's list (Tian et al. 2020); the seed does not say which it took.
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='imagenet100_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, ImageNet-100',
    tables=[],
    source='global-local self-distillation, table 3',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='imagenet100', variant='imagenet100')
