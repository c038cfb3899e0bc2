# kNN classification of ImageNet on frozen features (VICReg, table 8).
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='imagenet_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, ImageNet',
    tables=[],
    source='VICReg, table 8; global-local self-distillation, table 2',
    cost='paper: GPU hour; ci: the same')
data = dict(dataset='imagenet', variant='imagenet')
