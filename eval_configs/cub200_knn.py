# kNN classification of CUB-200-2011 on frozen features ("Scaling" VICReg, section 4.1).
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='cub200_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, CUB-200-2011',
    tables=[],
    source='VICReg, table 8, on the data of Scaling VICReg, section 4.1',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='cub200', variant='cub200')
