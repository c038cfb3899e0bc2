# Linear evaluation on NCT-CRC-HE-100K (global-local self-distillation, table 3),
# by the numbers of ImageNet's (VICRegL, D.1).
# Tested on CRC-VAL-HE-7K, patients of its own. Scored by top-1, as Kather et al. 2019 and the seed do;
# balanced accuracy, usual in histology, is `mean_per_class` in the record.
_base_ = ['_base_/linear_224.py']
protocol = dict(
    name='nct_crc_he_linear',
    version=1,
    kind='classification_linear_frozen',
    title='Linear classification, NCT-CRC-HE-100K',
    tables=[],
    source='VICRegL, appendix D.1, on the data of global-local self-distillation, table 3',
    cost='paper: GPU hours; ci: 4 epochs of batch 64')
data = dict(dataset='nct_crc_he', variant='nct_crc_he')
