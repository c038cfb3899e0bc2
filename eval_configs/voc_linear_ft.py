# Fine-tuned linear segmentation on Pascal VOC as the text of VICRegL has it (appendix D.2; tables 1
# and 2, column "Linear Seg., fine-tuned, VOC").
_base_ = ['_base_/voc12.py', '_base_/linear_ft.py', '_base_/ci_256.py']
protocol = dict(
    name='voc_linear_ft',
    version=1,
    kind='segmentation_linear_finetuned',
    title='Fine-tuned linear segmentation, Pascal VOC',
    tables=['1', '2'],
    source='VICRegL, appendix D.2; mmsegmentation 40k schedule',
    cost='paper: GPU days; ci: about 10 minutes on 2 CPU cores')
profiles = dict(ci={{_base_.ci}})
