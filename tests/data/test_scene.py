import numpy as np
import pytest

from vicregl_bench.data.scene import LOOKS, Scene, draw_scene, mark_borders
from vicregl_bench.data.voc import CLASSES


def draw(number: int, **changes: int) -> Scene:
    values = {"classes": 20, "first": number % 20 + 1} | changes
    return draw_scene(np.random.default_rng([3, number]), size=(160, 120), **values)


def test_every_class_has_a_look_of_its_own() -> None:
    assert len(LOOKS) == len(CLASSES) - 1
    assert len({(look.outline, look.texture, look.period) for look in LOOKS}) == len(LOOKS)
    reach = np.array([np.abs(np.array(look.outline)).max() for look in LOOKS])
    assert ((reach > 0.8) & (reach <= 1 + 1e-9)).all()


@pytest.mark.parametrize("number", range(20))
def test_labels_objects_and_instances_agree(number: int) -> None:
    scene = draw(number)
    assert scene.image.shape == (120, 160, 3)
    assert scene.image.dtype == scene.labels.dtype == scene.objects.dtype == np.uint8
    assert 1 <= len(scene.instances) <= 4
    assert scene.instances[0].label == number % 20 + 1
    assert ((scene.labels == 255) == (scene.objects == 255)).all()
    assert set(np.unique(scene.objects)) - {0, 255} == set(range(1, len(scene.instances) + 1))
    for index, item in enumerate(scene.instances, start=1):
        rows, columns = np.nonzero(scene.objects == index)
        assert item.box == (columns.min(), rows.min(), columns.max(), rows.max())
        assert (scene.labels[rows, columns] == item.label).all()
        assert len(rows) > 100  # never a sliver


def test_borders_are_two_pixels_and_separate_everything() -> None:
    objects = np.zeros((80, 80), dtype=np.uint8)
    objects[20:60, 20:40] = 1
    objects[20:60, 40:60] = 2
    marked = mark_borders(objects)
    assert marked[40, 17:24].tolist() == [0, 0, 255, 255, 1, 1, 1]
    assert marked[40, 37:43].tolist() == [1, 1, 255, 255, 2, 2]
    assert (mark_borders(np.zeros((80, 80), dtype=np.uint8)) == 0).all()
    for number in range(5):
        inner = draw(number).objects.astype(int)
        for axis in (0, 1):
            left, right = (np.delete(inner, end, axis) for end in (-1, 0))
            touching = (left != right) & (left != 255) & (right != 255)
            assert not touching.any()


def test_colours_do_not_give_the_class_away() -> None:
    """Mean colour of objects and ground: no channel differs by more than its own spread."""
    inside, ground = [], []
    for number in range(40):
        scene = draw(number)
        inside.append(scene.image[(scene.labels > 0) & (scene.labels < 255)].mean(0))
        ground.append(scene.image[scene.labels == 0].mean(0))
    difference = np.mean(inside, axis=0) - np.mean(ground, axis=0)
    spread = np.std(ground, axis=0)
    # 40 scenes: the difference of means has about 0.22 of one scene's spread; 0.7 is 3 sigma.
    assert (np.abs(difference) < 0.7 * spread).all()


def test_textures_differ_from_the_ground() -> None:
    """Mean luma gradient: objects are busier than ground in nearly every scene."""
    busier = 0
    for number in range(20):
        scene = draw(number)
        luma = scene.image @ np.array([0.299, 0.587, 0.114])
        slope = np.hypot(*np.gradient(luma))
        inner = (scene.labels > 0) & (scene.labels < 255)
        busier += slope[inner].mean() > 1.2 * slope[scene.labels == 0].mean()
    assert busier >= 17


def test_truncated_and_occluded_flags() -> None:
    items = [item for number in range(40) for item in draw(number).instances]
    assert any(item.truncated for item in items)
    assert any(item.occluded for item in items)
    assert any(not item.truncated and not item.occluded for item in items)
    for number in range(40):
        width = 160
        for item in draw(number).instances:
            if item.box[0] == 0 or item.box[2] == width - 1:
                assert item.truncated
