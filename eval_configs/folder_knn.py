# kNN classification on frozen features of any pictures in class folders.
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='folder_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, class folders',
    tables=[],
    source='VICReg, table 8, on other data',
    cost='paper: by the data; ci: the same')
data = dict(dataset='folder', variant='folder')
