# Mask R-CNN R50-FPN, detectron2's and mmdetection's numbers, on COCO; 1x is 90k iterations of batch
# 16. Learning rate 0.04, a tenth of it from 60k and from 80k on, warm-up 50: VICReg, appendix B.3.
# Ours, where the papers are silent: the grid around that rate, the warm-up's factor of 0.001, one
# seed, BatchNorm trained and no precise BN.
schedule = dict(
    iters=90000,
    batch_size=16,
    optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4, norm_decay=False),
    steps=dict(milestones=(60000, 80000), gamma=0.1),
    warmup=dict(iters=50, start_factor=0.001))
detector = dict(
    rpn_loss_weight=1.0,
    anchors=256,
    proposals_train=(2000, 1000),
    proposals_test=(1000, 1000),
    regions=512,
    score_threshold=0.05,
    nms_threshold=0.5,
    detections=100)
sweep = dict(lrs=[0.02, 0.04, 0.08], seeds=1, run_seed=0, holdout=0.1)
profiles = dict(
    paper=dict(),
    ci=dict(
        data=dict(short_sides=(256,), test_short_side=256, longest=448),
        schedule=dict(
            iters=30, batch_size=2, steps=dict(milestones=(20, 27)), warmup=dict(iters=5)),
        detector=dict(
            proposals_train=(500, 250), proposals_test=(250, 100), regions=64, anchors=128),
        sweep=dict(lrs=[0.0025], seeds=1)))
