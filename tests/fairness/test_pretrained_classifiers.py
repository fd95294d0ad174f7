"""Classifiers of transformers: their preprocessing is their processor's, and their files are opened or refused."""

import json

import numpy as np
import pytest
import torch
import transformers

from synthfair_hf.errors import InputError
from synthfair_hf.fairness.classifier import ImageClassifier, save_classifier
from synthfair_hf.fairness.labelled import LabelledImages
from synthfair_hf.fairness.pretrained import open_classifier
from synthfair_hf.records import Record

SIDE = 32
GRAY = torch.randint(0, 256, (5, 1, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
COLOURS = torch.randint(0, 256, (5, 3, SIDE, SIDE), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))


def labelled(images):
    return LabelledImages(images, torch.arange(len(images)) % 2, {}, {}, np.arange(len(images)).astype(str))


def resnet(**settings):
    return transformers.ResNetConfig(embedding_size=8, hidden_sizes=[8, 16], depths=[1, 1], **settings)


def vit(**settings):
    return transformers.ViTConfig(
        hidden_size=16, num_hidden_layers=1, num_attention_heads=2, intermediate_size=16, image_size=SIDE, patch_size=8,
        **settings,
    )  # fmt: skip


def convnext(**settings):
    return transformers.ConvNextConfig(hidden_sizes=[8, 8, 8, 16], depths=[1, 1, 1, 1], **settings)


CONFIGS = {"resnet": resnet, "vit": vit, "convnext": convnext}
PROCESSORS = {
    "none": None,
    "square": ("ViTImageProcessorPil", {"size": {"height": SIDE, "width": SIDE}}),
    "crop": ("CLIPImageProcessorPil", {"size": {"shortest_edge": 40}, "crop_size": {"height": SIDE, "width": SIDE}}),
    "share": ("ConvNextImageProcessorPil", {"size": {"shortest_edge": SIDE}}),
    "raw": ("ViTImageProcessorPil", {"do_rescale": False, "do_resize": False, "image_mean": [9.0] * 3}),
}


@pytest.fixture
def saved(tmp_path):
    """`saved(config, processor)` writes a model with random weights and, if asked, its image processor."""

    def save(config, processor="none"):
        torch.manual_seed(0)
        model = transformers.AutoModelForImageClassification.from_config(config).eval()
        model.save_pretrained(tmp_path)
        if PROCESSORS[processor] is not None:
            name, settings = PROCESSORS[processor]
            getattr(transformers, name)(**settings).save_pretrained(tmp_path)
        return tmp_path, model

    return save


@pytest.mark.parametrize("processor", PROCESSORS)
@pytest.mark.parametrize("name", CONFIGS)
def test_logits_are_those_of_the_processor_and_the_model(saved, name, processor):
    directory, model = saved(CONFIGS[name](num_labels=2), processor)
    smooth = torch.nn.functional.interpolate(COLOURS[:, :, :5, :5].float(), (SIDE, SIDE), mode="bilinear").byte()
    found = open_classifier(directory).logits(smooth)
    if processor == "none":
        pixels = smooth / 255 * 2 - 1
    else:
        opened = transformers.AutoImageProcessor.from_pretrained(directory, backend="pil")
        pixels = opened(list(smooth.numpy()), input_data_format="channels_first", return_tensors="pt")["pixel_values"]
    with torch.no_grad():
        logits = model(pixel_values=pixels).logits
    # Pillow rounds to 8 bits between its steps
    torch.testing.assert_close(found, logits[:, 1] - logits[:, 0], rtol=0.02, atol=0.02)


def test_one_label_two_and_one_of_several(saved):
    directory, model = saved(resnet(num_labels=1))
    with torch.no_grad():
        raw = model(pixel_values=GRAY.expand(-1, 3, -1, -1) / 255 * 2 - 1).logits
    torch.testing.assert_close(open_classifier(directory).logits(GRAY), raw[:, 0])
    directory, model = saved(resnet(id2label={0: "none", 1: "edema", 2: "effusion"}))
    with torch.no_grad():
        shares = model(pixel_values=GRAY.expand(-1, 3, -1, -1) / 255 * 2 - 1).logits.double().softmax(dim=1)
    found = open_classifier(directory, "effusion").logits(GRAY)
    torch.testing.assert_close(found, shares[:, 2].logit().float(), rtol=1e-4, atol=1e-5)
    with pytest.raises(InputError, match="label: 'edma' is unknown; allowed: none, edema, effusion; did you mean 'ed"):
        open_classifier(directory, "edma")
    with pytest.raises(InputError, match=r"label: not given, and the classifier has 3 labels; say .* such as 'none'"):
        open_classifier(directory).logits(GRAY)


def test_labels_that_may_be_present_together_are_each_a_finding(saved):
    names = {0: "edema", 1: "effusion", 2: "mass"}
    directory, model = saved(vit(id2label=names, problem_type="multi_label_classification", num_channels=1))
    with torch.no_grad():
        raw = model(pixel_values=GRAY / 255 * 2 - 1).logits
    torch.testing.assert_close(open_classifier(directory, "effusion").logits(GRAY), raw[:, 1])
    directory, _ = saved(vit(id2label={0: "edema", 1: "mass"}, problem_type="multi_label_classification"))
    with pytest.raises(InputError, match=r"label: not given, and the classifier has 2 labels"):
        open_classifier(directory).logits(GRAY)


@pytest.mark.parametrize("name", CONFIGS)
def test_a_fitted_classifier_is_saved_and_opened_again(saved, tmp_path, name):
    directory, _ = saved(CONFIGS[name](num_labels=5), "square")
    begun = open_classifier(directory, to_fit=True).initial(labelled(GRAY), 3).eval()
    assert begun.hooks == ("features", "last layer")
    assert (begun.network.model.config.num_labels, begun.labels) == (1, ["LABEL_0"])
    begun.save_pretrained(tmp_path / "again")
    again = open_classifier(tmp_path / "again")
    assert torch.equal(again.logits(GRAY), begun.logits(GRAY))
    assert again.fingerprint == begun.fingerprint
    torch.testing.assert_close(begun.head(begun.features(GRAY))[:, 0], begun.logits(GRAY))


def test_a_classifier_is_on_the_device_that_is_asked_for(saved, monkeypatch):
    directory, _ = saved(CONFIGS["resnet"]())
    monkeypatch.setattr("synthfair_hf.fairness.pretrained.local_device", lambda: "meta")
    assert open_classifier(directory).device.type == "meta"
    opened = open_classifier(directory, device="cpu")
    assert opened.device.type == opened.initial(labelled(GRAY), 0).device.type == "cpu"
    with pytest.raises(InputError, match="device: 'gpu' is none that torch has here; give 'cpu' or 'cuda:0', or"):
        open_classifier(directory, device="gpu")


@pytest.mark.parametrize("name", CONFIGS)
def test_a_configuration_is_drawn_by_the_seed(tmp_path, name):
    CONFIGS[name]().save_pretrained(tmp_path)
    for place in (tmp_path, tmp_path / "config.json"):
        classifier = open_classifier(place, to_fit=True)
        one, again, other = (classifier.initial(labelled(GRAY), seed) for seed in (0, 0, 1))
        assert one.fingerprint == again.fingerprint != other.fingerprint
        assert one.hooks == ("features", "last layer")
        assert classifier.access == "open"
    with pytest.raises(InputError, match="has no weights; give a directory with weights as safetensors"):
        open_classifier(tmp_path)


def test_weights_without_a_last_layer_are_for_a_fit_alone(tmp_path):
    torch.manual_seed(0)
    transformers.ViTModel(vit(num_channels=1), add_pooling_layer=False).save_pretrained(tmp_path)
    with pytest.raises(InputError, match=r"lacks classifier.bias, classifier.weight of a ViTForImageClassification"):
        open_classifier(tmp_path)
    classifier = open_classifier(tmp_path, to_fit=True)
    one, again, other = (classifier.initial(labelled(GRAY), seed).fingerprint for seed in (0, 0, 1))
    assert one == again != other


def test_a_classifier_of_this_package_is_opened_as_one(tmp_path):
    save_classifier(ImageClassifier(SIDE, (8, 8, 8)), tmp_path, Record(stage="fit_classifier"))
    assert isinstance(open_classifier(tmp_path), ImageClassifier)
    with pytest.raises(InputError, match=r"label: 'edema' is given, and .* has one output; leave it out"):
        open_classifier(tmp_path, "edema")


def test_a_record_beside_the_weights_tells_their_access(saved):
    directory, _ = saved(resnet())
    assert open_classifier(directory).access == "unknown"
    Record(stage="fit_classifier", inputs={"access": "credentialed"}).write(directory / "record.json")
    assert open_classifier(directory).access == "credentialed"


def test_what_is_no_classifier_is_told_in_a_sentence(saved, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="there is no directory 'no/where', and no Hub repository of that name"):
        open_classifier("no/where")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"config.json is no readable configuration"):
        open_classifier(tmp_path / "empty")
    transformers.BertConfig(hidden_size=8).save_pretrained(tmp_path / "bert")
    with pytest.raises(InputError, match="is of a bert, which classifies no images; give a model of AutoModelForIm"):
        open_classifier(tmp_path / "bert", to_fit=True)
    directory, _ = saved(resnet())
    weights = directory / "model.safetensors"
    data = weights.read_bytes()
    weights.write_bytes(data[:1000])
    with pytest.raises(InputError, match="can't be loaded"):
        open_classifier(directory)
    weights.unlink()
    (directory / "pytorch_model.bin").write_bytes(data)
    with pytest.raises(InputError, match=r"has pytorch_model.bin, which may hold code; give .* as safetensors"):
        open_classifier(directory)


def test_code_of_a_repository_is_not_run(saved):
    directory, _ = saved(resnet())
    config = json.loads((directory / "config.json").read_text())
    config |= {"model_type": "mine", "auto_map": {"AutoConfig": "mine.C", "AutoModelForImageClassification": "mine.M"}}
    (directory / "config.json").write_text(json.dumps(config))
    (directory / "mine.py").write_text("raise SystemExit('ran')")
    with pytest.raises(InputError, match="give a configuration that transformers reads without code of its own"):
        open_classifier(directory)


def test_another_colour_is_told_in_a_sentence(saved):
    directory, _ = saved(vit(num_channels=1))
    with pytest.raises(InputError, match="images: 3 channels, and the classifier takes 1; give images of its colours"):
        open_classifier(directory).logits(COLOURS)
    transformers.ViTImageProcessorPil().save_pretrained(directory)
    with pytest.raises(InputError, match="is for 3 channels, and the model for 1; give the processor that it was"):
        open_classifier(directory)


def test_a_size_that_the_model_does_not_take_is_told(saved):
    directory, _ = saved(vit(num_channels=1))
    with pytest.raises(InputError, match=r"classifier: it takes no images of 1 x 16 x 16 \(Input image size"):
        open_classifier(directory).logits(GRAY[:, :, :16, :16])


def test_a_processor_that_does_more_is_refused(saved):
    directory, _ = saved(convnext(), "square")
    path = directory / "preprocessor_config.json"
    settings = json.loads(path.read_text()) | {
        "image_processor_type": "EfficientNetImageProcessor",
        "rescale_offset": True,
    }
    path.write_text(json.dumps(settings))
    with pytest.raises(InputError, match="does more than resize, crop, rescale and normalise; give one that does no"):
        open_classifier(directory)
    path.write_text(json.dumps({"image_processor_type": "Mine"}))
    with pytest.raises(InputError, match=r"the image processor of .* can't be loaded"):
        open_classifier(directory)
    path.unlink()
    open_classifier(directory)
