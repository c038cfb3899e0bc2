# Segmentation by the nearest patches on ADE20k.
_base_ = ['_base_/dense_knn.py']
protocol = dict(
    name='ade20k_dense_knn',
    version=1,
    kind='segmentation_knn_probe',
    title='Segmentation by nearest patches, ADE20k',
    tables=[],
    source='Balazevic et al. 2023 (2306.01667)',
    cost='paper: hours on a GPU, 42 GB of disk for 2,048 channels; ci: about 4 minutes on 2 CPU cores')
data = dict(dataset='ade20k', variant='challenge2016', num_classes=150)
