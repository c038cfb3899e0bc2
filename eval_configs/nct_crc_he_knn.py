# kNN classification of NCT-CRC-HE-100K on frozen features (global-local self-distillation, table 3).
# Tested on CRC-VAL-HE-7K, patients of its own. Scored by top-1, as Kather et al. 2019 and the seed do;
# balanced accuracy, usual in histology, is `mean_per_class` in the record.
_base_ = ['_base_/knn_224.py']
protocol = dict(
    name='nct_crc_he_knn',
    version=1,
    kind='classification_knn_probe',
    title='kNN classification, NCT-CRC-HE-100K',
    tables=[],
    source='global-local self-distillation, table 3',
    cost='paper: minutes on a GPU; ci: the same')
data = dict(dataset='nct_crc_he', variant='nct_crc_he')
