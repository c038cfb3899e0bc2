# Linear classification of other data on frozen features as VICReg has it (seed 003, table 2; appendix
# B.3): SGD 0.9, weight decay 1e-4, batch 256, one rate, divided by 10 at three epochs. The text names
# VISSL and no crops: those of its configs for both data sets are taken, 0.08 to 1 of the area at 224 and
# flip, in test the shorter side 256 and the central 224. Not taken from there: a BatchNorm before the
# layer, 8,192 features of a pooling in windows, Nesterov's momentum, and 14 epochs of Places205 (whose
# steps, 4, 8 and 12, are the text's, which trains for 28). Ours: a plain linear layer on the pooled
# vector, N(0, 0.01) as VICReg's evaluate.py, three seeds.
data = dict(crop=224, scale=(0.08, 1.0), flip=0.5, resize=256)
schedule = dict(batch_size=256, optimizer=dict(type='SGD', momentum=0.9, weight_decay=1e-4))
classifier = dict(init_std=0.01, batch_norm=False)
