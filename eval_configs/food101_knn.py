# kNN classification of Food-101 on frozen features (global-local self-distillation, table 3).
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='food101_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, Food-101',
    tables=[],
    source='global-local self-distillation, table 3',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='food101', variant='food101')
