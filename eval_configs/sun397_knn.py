# kNN classification of SUN397 on frozen features ("Scaling" VICReg, section 4.1).
# The first of the ten official partitions; the seed names none.
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='sun397_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, SUN397',
    tables=[],
    source='VICReg, table 8, on the data of Scaling VICReg, section 4.1',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='sun397', variant='sun397')
