import dataclasses
import json

from vicregl_bench.checkpoints import READERS, find_reader
from vicregl_bench.checkpoints.card import IMAGENET_MEAN, IMAGENET_STD, Card
from vicregl_bench.checkpoints.card_fields import CardFields


def test_normalisation_is_imagenets_on_the_0_255_scale() -> None:
    for value, unit in zip(IMAGENET_MEAN, (0.485, 0.456, 0.406), strict=True):
        assert abs(value - 255 * unit) < 1e-9
    for value, unit in zip(IMAGENET_STD, (0.229, 0.224, 0.225), strict=True):
        assert abs(value - 255 * unit) < 1e-9


def test_vicregl_keeps_the_papers_std_and_notes_the_released_one() -> None:
    card = find_reader("vicregl").card
    assert card.std == (58.395, 57.12, 57.375)
    assert "0.228" in card.note


def test_cards_are_json_and_named_once() -> None:
    cards = [json.loads(json.dumps(reader.card.to_dict())) for reader in READERS]
    assert len({card["method"] for card in cards}) == len(cards)
    assert all(card["title"] and card["source"] for card in cards)
    vicregl = next(card for card in cards if card["method"] == "vicregl")
    assert vicregl["mean"] == [123.675, 116.28, 103.53]
    assert vicregl["references"][0]["task"] == "imagenet_linear"


def test_files_can_hold_every_field_but_the_references() -> None:
    fields = {field.name for field in dataclasses.fields(Card)}
    assert set(CardFields.model_fields) == fields - {"references"}


def test_no_card_of_ours_would_be_refused_in_a_file() -> None:
    for reader in READERS:
        held = {key: value for key, value in reader.card.to_dict().items() if key != "references"}
        fields = CardFields.model_validate(held)
        assert (fields.mean, fields.std) == (reader.card.mean, reader.card.std)
