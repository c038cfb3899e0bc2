# Fine-tuned detection on Pascal VOC: Faster R-CNN C4 (VICRegL, table 9; MoCo's detection protocol).
# All of the backbone is trained, BatchNorm too, with precise BN before the test; norms are not
# decayed, difficult objects are trained on (both detectron2's). Weights trained with LARS have other
# norms: under MoCo's one point VICRegL's released ResNet-50 gives AP 27, not 59.5 (its users'
# reports), so rate and warm-up are the grid. Presets, of ResNets: `moco` is MoCo's, lr 0.02 with a
# warm-up of 100 iterations from 0.001; `lars` VICReg's (appendix B.3), lr 0.1 with one of 1000 from
# 0.333 and the RPN's losses times 0.2. Ours: the points beside these two, and three trials (MoCo: the
# mean of five). ConvNeXts and ViTs (table 9's lower half; the paper does not say how) have the last
# stage, or the last third of the blocks, as region head; AdamW and its rates are ours.
_base_ = ['_base_/voc_boxes.py']
protocol = dict(
    name='voc_det_frcnn_c4',
    version=1,
    kind='detection_c4_finetuned',
    only=['resnet', 'convnext', 'vit'],
    title='Fine-tuned Faster R-CNN C4 detection, Pascal VOC',
    tables=['9'],
    source='VICRegL, table 9; MoCo detection configs; VICReg, appendix B.3',
    cost='paper: GPU weeks for the grid; ci: about 20 minutes on 2 CPU cores')
schedule = dict(
    iters=24000,
    batch_size=16,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4, norm_decay=False),
    steps=dict(milestones=(18000, 22000), gamma=0.1))
detector = dict(
    rpn_loss_weight=1.0,
    anchors=256,
    proposals_train=(12000, 2000),
    proposals_test=(6000, 1000),
    regions=512,
    score_threshold=0.05,
    nms_threshold=0.5,
    detections=100)
precise_bn = 200
sweep = dict(
    lrs=[0.02, 0.05, 0.1],
    warmups=[dict(iters=100, start_factor=0.001), dict(iters=1000, start_factor=0.333)],
    seeds=3,
    run_seed=0,
    holdout=0.1)
presets = dict(moco=dict(), lars=dict(detector=dict(rpn_loss_weight=0.2)))
small_rates = dict(
    schedule=dict(
        iters=24000,
        batch_size=16,
        optimizer=dict(
            type='AdamW', betas=(0.9, 0.999), weight_decay=0.05, norm_decay=False),
        steps=dict(milestones=(18000, 22000), gamma=0.1)),
    sweep=dict(
        lrs=[2e-4, 1e-4, 5e-5],
        warmups=[dict(iters=1000, start_factor=0.001)],
        seeds=3,
        run_seed=0,
        holdout=0.1))
families = dict(convnext=small_rates, vit=small_rates)
# The `ci` profile on two CPU cores: small batches of few regions, on each of which res5 runs, and one
# point of the grid.
ci_schedule = dict(iters=100, batch_size=2, steps=dict(milestones=(75, 92)))
ci_detector = dict(
    anchors=128, proposals_train=(1000, 100), proposals_test=(500, 50), regions=32)
ci_warmups = [dict(iters=10, start_factor=0.1)]
ci_small_rates = dict(
    schedule=ci_schedule,
    detector=ci_detector,
    precise_bn=10,
    sweep=dict(lrs=[1e-4], warmups=ci_warmups, seeds=1))
profiles = dict(
    paper=dict(),
    ci={{_base_.ci}},
    ci_resnet=dict(
        schedule=ci_schedule,
        detector=ci_detector,
        precise_bn=10,
        sweep=dict(lrs=[0.01], warmups=ci_warmups, seeds=1)),
    ci_convnext=ci_small_rates,
    ci_vit=ci_small_rates)
