# The semi-supervised evaluation of ImageNet, on 10 % of any pictures in class folders.
_base_ = ['_base_/semi_224.py']
protocol = dict(
    name='folder_semi_10',
    version=1,
    kind='classification_finetuned',
    title='Semi-supervised classification, 10 % of class folders',
    tables=[],
    source='VICReg, table 1 and appendix B.2, on other data',
    cost='paper: by the data; ci: about 10 minutes on 2 CPU cores')
data = dict(dataset='folder', variant='folder_10pct')
classifier = {{_base_.ten_percent.classifier}}
sweep = {{_base_.ten_percent.sweep}}
profiles = dict(ci=dict(sweep=dict(lrs=[0.000625]), classifier=dict(lr=0.00625)))
