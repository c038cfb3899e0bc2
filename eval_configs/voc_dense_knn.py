# Segmentation by the nearest patches on Pascal VOC 2012, VOC12aug's 10,582 training pictures.
_base_ = ['_base_/dense_knn.py']
protocol = dict(
    name='voc_dense_knn',
    version=1,
    kind='segmentation_knn_probe',
    title='Segmentation by nearest patches, Pascal VOC',
    tables=[],
    source='Balazevic et al. 2023 (2306.01667)',
    cost='paper: hours on a GPU, 42 GB of disk for 2,048 channels; ci: about 2 minutes on 2 CPU cores')
data = dict(dataset='voc', variant='voc12aug', num_classes=21)
