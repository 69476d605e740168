"""Segmentation networks on our encoders: shapes, dilation, determinism, and that they learn."""

from contextlib import contextmanager

import pytest
import torch
from torch.nn import functional as F
from torchvision import models

from geossl.errors import UsageError
from geossl.models.backbone import build_backbone
from geossl.models.pyramid import stage_maps
from geossl.transfer.masks import IGNORE
from geossl.transfer.segmenters import Logits, build_segmenter, dilate, segmentation_loss


@contextmanager
def deterministic():
    torch.use_deterministic_algorithms(mode=True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=False)


def segmenter(name="resnet18", *, head="pspnet", size=65, bands=3, seed=0, **more):
    encoder = build_backbone(name, bands=bands, seed=0, size=size, **more)
    return build_segmenter(encoder, head=head, classes=2, size=size, seed=seed)


@pytest.mark.parametrize("head", ["pspnet", "psanet"])
@pytest.mark.parametrize(
    "name", ["resnet18", "resnet50", "timm/resnet18", "timm/convnext_atto", "timm/vit_tiny_patch16_224"]
)
def test_every_pixel_gets_logits(head, name):
    size = 65 if "resnet" in name else 64  # the others cut patches
    net = segmenter(name, head=head, size=size, bands=4)
    images = torch.randn(2, 4, size, size, generator=torch.Generator().manual_seed(0))
    logits = net(images)
    assert logits.main.shape == logits.auxiliary.shape == (2, 2, size, size)
    assert logits.main.dtype == torch.float32
    evaluated = net.eval()(images)
    assert evaluated.main.shape == (2, 2, size, size)
    assert evaluated.auxiliary is None


@pytest.mark.parametrize("name", ["resnet18", "resnet50"])
def test_the_deepest_maps_have_an_eighth_and_the_weights_stay(name):
    encoder = build_backbone(name, bands=3, seed=0)
    before = {key: value.clone() for key, value in encoder.state_dict().items()}
    images = torch.randn(1, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        second = encoder.eval().body.layer1(
            encoder.body.maxpool(encoder.body.relu(encoder.body.bn1(encoder.body.conv1(images))))
        )
        second = encoder.body.layer2(second)
    build_segmenter(encoder, head="pspnet", classes=2, size=65, seed=0)
    after = encoder.state_dict()
    assert after.keys() == before.keys()
    assert all(torch.equal(after[key], before[key]) for key in before)
    with torch.no_grad():
        maps = stage_maps(encoder.body, images)[-2:]
    assert {each.shape[2:] for each in maps} == {second.shape[2:]} == {(9, 9)}


def test_dilation_samples_what_strides_would_have_given():
    """Without its own 3 x 3 neighbours in between, a dilated stage computes every place of the stage with strides."""
    plain = models.resnet50(weights=None).eval()
    dilated = models.resnet50(weights=None).eval()
    dilated.load_state_dict(plain.state_dict())
    dilate(dilated)
    x = torch.randn(1, 512, 17, 17, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        # The first block has its stride in its 3 x 3 convolution: dilated by 1 it is the same at every second place.
        first, second = plain.layer3[0], dilated.layer3[0]
        assert second.conv2.dilation == second.conv2.padding == (2, 2)
        assert second.downsample[0].stride == second.conv2.stride == (1, 1)
        second.conv2.dilation = second.conv2.padding = (1, 1)
        torch.testing.assert_close(second(x)[:, :, ::2, ::2], first(x))
    assert {layer.dilation for layer in dilated.layer4.modules() if getattr(layer, "kernel_size", 0) == (3, 3)} == {
        (4, 4)
    }
    assert {layer.dilation for layer in dilated.layer2.modules() if getattr(layer, "kernel_size", 0) == (3, 3)} == {
        (1, 1)
    }


def test_the_stem_for_small_images_needs_no_dilation():
    net = segmenter(size=33, stem="small")
    assert [each.shape[2] for each in stage_maps(net.encoder.body, torch.zeros(1, 3, 33, 33))[-2:]] == [9, 5]


def test_the_head_is_drawn_from_the_seed_and_nothing_else_is():
    torch.manual_seed(5)
    expected = torch.rand(1)
    torch.manual_seed(5)
    first, again, other = (segmenter(seed=seed) for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    for key, value in first.head.state_dict().items():
        assert torch.equal(value, again.head.state_dict()[key])
    assert not torch.equal(first.classify.weight, other.classify.weight)


@pytest.mark.parametrize("head", ["pspnet", "psanet"])
def test_a_step_on_the_cpu_is_reproducible(head):
    images = torch.randn(2, 3, 65, 65, generator=torch.Generator().manual_seed(0))
    truth = torch.randint(0, 2, (2, 65, 65), generator=torch.Generator().manual_seed(1))
    results = []
    with deterministic():
        for _ in range(2):
            net = segmenter(head=head)
            torch.manual_seed(0)  # dropout
            segmentation_loss(net(images), truth).backward()
            results.append({name: each.grad for name, each in net.named_parameters()})
    assert all(torch.equal(results[0][name], results[1][name]) for name in results[0])
    unused = {name for name, gradient in results[0].items() if gradient is None or not gradient.abs().sum()}
    assert not unused


def test_the_loss_is_the_mean_over_counted_pixels_with_04_of_the_auxiliary():
    generator = torch.Generator().manual_seed(0)
    main, auxiliary = torch.randn(2, 2, 3, 5, 5, generator=generator)
    truth = torch.randint(0, 3, (2, 5, 5), generator=generator)
    truth[0, :2] = IGNORE
    one, two = (F.cross_entropy(each, truth, ignore_index=IGNORE) for each in (main, auxiliary))
    torch.testing.assert_close(segmentation_loss(Logits(main, auxiliary), truth), one + 0.4 * two)
    torch.testing.assert_close(segmentation_loss(Logits(main, None), truth), one)
    assert segmentation_loss(Logits(main, None), torch.full_like(truth, IGNORE)) == 0


@pytest.mark.parametrize("head", ["pspnet", "psanet"])
def test_it_learns_squares(head):
    generator = torch.Generator().manual_seed(0)
    images, truth = torch.randn(4, 3, 49, 49, generator=generator), torch.zeros(4, 49, 49, dtype=torch.long)
    for i in range(4):
        truth[i, 6 * i : 6 * i + 24, 12:36] = 1
    images += 2.0 * truth[:, None]
    net = segmenter(head=head, size=49)
    optimizer = torch.optim.Adam(net.parameters(), lr=1e-3)
    torch.manual_seed(0)
    for _ in range(15):
        optimizer.zero_grad()
        segmentation_loss(net(images), truth).backward()
        optimizer.step()
    predicted = net(images).main.argmax(1)
    both, either = ((predicted == 1) & (truth == 1)).sum(), ((predicted == 1) | (truth == 1)).sum()
    assert both / either > 0.6  # all building would give 0.24


def test_a_model_without_maps_is_named_and_others_are_advised():
    with pytest.raises(UsageError, match=r"convnext_tiny: gives no feature maps here.*resnet50.*timm/convnext_tiny"):
        segmenter("convnext_tiny", size=64)
