# ConvNeXt-B as the released training code has it, 400 epochs: what differs from ConvNeXt-S.
_base_ = ["convnext_small_released.py"]
recipe = dict(name="convnext_base_released", title="VICRegL, ConvNeXt-B, released settings")
model = dict(backbone="convnext_base")
optimizer = dict(base_lr=5e-4)
schedule = dict(epochs=400, batch_size=576)
