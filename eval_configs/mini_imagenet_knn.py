# kNN classification of Mini-ImageNet on frozen features ("Scaling" VICReg, section 4.1).
# Nobody publishes a split within its classes: `train` and `val` are the data root's own (docs/data.md).
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='mini_imagenet_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, Mini-ImageNet',
    tables=[],
    source='VICReg, table 8, on the data of Scaling VICReg, section 4.1',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='mini_imagenet', variant='mini_imagenet')
