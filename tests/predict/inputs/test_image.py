"""Images against the library's own processors, and against drawn patch embeddings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from tests.predict.inputs.readings import SIZES, patches, vit

from translimit.core import ArgumentError, ConfigError
from translimit.predict.inputs import read_tokens
from translimit.predict.inputs.image import read_image

OWN = {"height": 32, "width": 32}


def picture(folder: Path, height: int = 45, width: int = 60, mode: str = "RGB") -> Path:
    """A smooth image with noise on it, so that both large and small patterns are there."""
    rng = np.random.default_rng(0)
    y, x = np.mgrid[0:height, 0:width]
    waves = np.stack([np.sin(y / 7 + k) + np.cos(x / 11 - k) for k in range(3)], axis=2)
    values = 127 + 50 * waves + 10 * rng.standard_normal((height, width, 3))
    image = Image.fromarray(np.clip(values, 0, 255).astype(np.uint8)).convert(mode)
    image.save(folder / "picture.png")
    return folder / "picture.png"


def blocks(pixels: np.ndarray, patch: int = 8) -> np.ndarray:
    """Patches by a loop, row by row."""
    _, height, width = pixels.shape
    return np.array(
        [
            pixels[:, i : i + patch, j : j + patch].ravel()
            for i in range(0, height, patch)
            for j in range(0, width, patch)
        ]
    )


PROCESSORS: dict[str, tuple[str, dict[str, Any]]] = {
    "vit": ("ViTImageProcessorPil", {"size": OWN}),
    "deit": (
        "DeiTImageProcessorPil",
        {"size": {"height": 40, "width": 40}, "crop_size": OWN},
    ),
    "clip": ("CLIPImageProcessorPil", {"size": {"shortest_edge": 32}, "crop_size": OWN}),
    "siglip": ("SiglipImageProcessorPil", {"size": OWN}),
    "bit": ("BitImageProcessorPil", {"size": {"shortest_edge": 37}, "crop_size": OWN}),
}


@pytest.mark.parametrize("name", PROCESSORS)
@pytest.mark.parametrize(("height", "width"), [(45, 60), (61, 40), (20, 21)])
def test_pixels_are_those_of_the_processor(
    tmp_path: Path, name: str, height: int, width: int
) -> None:
    pytest.importorskip("transformers")
    from importlib import import_module

    kind, sizes = PROCESSORS[name]
    module = import_module(f"transformers.models.{name}.image_processing_pil_{name}")
    processor = getattr(module, kind)(**sizes)
    processor.save_pretrained(tmp_path)
    path = picture(tmp_path, height, width)
    own = processor(Image.open(path), return_tensors="np")["pixel_values"][0]
    found, told, warnings = read_image(path, patches(), tmp_path)
    np.testing.assert_allclose(found, blocks(own), atol=1e-6)
    assert warnings == ()
    assert "(preprocessor_config.json)" in told


def test_a_centre_that_is_larger_than_the_image_has_zeros_around_it(tmp_path: Path) -> None:
    pytest.importorskip("transformers")
    from transformers.models.clip.image_processing_pil_clip import CLIPImageProcessorPil

    processor = CLIPImageProcessorPil(size={"shortest_edge": 19}, crop_size=OWN)
    processor.save_pretrained(tmp_path)
    path = picture(tmp_path, 40, 57)
    own = processor(Image.open(path), return_tensors="np")["pixel_values"][0]
    found, _, _ = read_image(path, patches(), tmp_path)
    np.testing.assert_allclose(found, blocks(own), atol=1e-6)


def test_without_a_file_the_steps_are_stated(tmp_path: Path) -> None:
    path = picture(tmp_path, 32, 64)
    found, told, _ = read_image(path, patches(), tmp_path)
    centre = np.asarray(Image.open(path), float)[:, 16:48]
    np.testing.assert_allclose(found, blocks(np.moveaxis((centre / 255 - 0.5) / 0.5, -1, 0)))
    assert told == (
        "picture.png, 32 x 64 pixels: shorter side resized to 32 (bicubic), centre of 32 x 32 "
        "kept, values times 0.003922, less 0.5, 0.5, 0.5, over 0.5, 0.5, 0.5 "
        "(no preprocessor_config.json was given)"
    )


def test_the_covariance_is_that_of_drawn_patch_embeddings(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch")
    transformers = pytest.importorskip("transformers")
    path, draws = picture(tmp_path), 24
    found = read_tokens(vit(initializer_range=0.05), image=path, key=0)
    pixels, _, _ = read_image(path, patches(), None)
    whole = pixels.reshape(4, 4, 3, 8, 8).transpose(2, 0, 3, 1, 4).reshape(1, 3, 32, 32)
    config = transformers.ViTConfig(
        image_size=32, patch_size=8, initializer_range=0.05, intermediate_size=64, **SIZES
    )
    covs = []
    for seed in range(draws):
        torch.manual_seed(seed)
        embed = transformers.ViTModel(config).embeddings.eval()
        with torch.no_grad():
            x = embed(torch.tensor(whole, dtype=torch.float32))[0].double().numpy()
        x -= x.mean(axis=1, keepdims=True)  # as the layer norms of the stack do
        covs.append(x @ x.T / 64)
    squares = np.outer(np.diagonal(found.cov), np.diagonal(found.cov))
    error = np.sqrt((squares + found.cov**2) / (64 * draws))
    gaps = np.abs(np.mean(covs, axis=0) - found.cov) / error
    assert gaps.max() < 4, gaps.max()
    # Independent pixels, and patches in another order, are refuted.
    blind = read_tokens(vit(initializer_range=0.05), key=0).cov
    assert (np.abs(np.mean(covs, axis=0) - blind) / error).max() > 10
    turned = np.r_[0, 1 + np.arange(16).reshape(4, 4).T.ravel()]
    other = found.cov[np.ix_(turned, turned)]
    assert (np.abs(np.mean(covs, axis=0) - other) / error).max() > 10


def test_all_kinds_of_pictures_are_read(tmp_path: Path) -> None:
    own, _, _ = read_image(picture(tmp_path), patches(), None)
    array = np.asarray(Image.open(tmp_path / "picture.png"))
    np.save(tmp_path / "picture.npy", array)
    np.save(tmp_path / "shares.npy", array / 255)
    for source in (tmp_path / "picture.npy", tmp_path / "shares.npy", array, array / 255):
        np.testing.assert_allclose(read_image(source, patches(), None)[0], own)
    Image.open(tmp_path / "picture.png").save(tmp_path / "p.jpg", quality=95)
    assert np.abs(read_image(tmp_path / "p.jpg", patches(), None)[0] - own).max() < 0.5
    for mode in ("L", "P", "RGBA", "LA", "1"):
        found, _, _ = read_image(picture(tmp_path, mode=mode), patches(), None)
        assert found.shape == (16, 192)
        assert 0.1 < found.std() < 1.2, mode
    grey, _, _ = read_image(picture(tmp_path, mode="L"), patches(), None)
    red, green = grey.reshape(16, 3, 64)[:, :2].transpose(1, 0, 2)
    np.testing.assert_array_equal(red, green)
    deep = Image.fromarray(
        (257 * np.asarray(Image.open(tmp_path / "picture.png"), dtype=int)).astype("uint16")
    )
    deep.save(tmp_path / "deep.png")
    np.testing.assert_allclose(read_image(tmp_path / "deep.png", patches(), None)[0], grey)
    one = patches(num_channels=1)
    assert read_image(tmp_path / "picture.png", one, None)[0].shape == (16, 64)


def test_an_image_is_seen_as_its_camera_was_held(tmp_path: Path) -> None:
    upright = Image.open(picture(tmp_path, 40, 40))
    exif = Image.Exif()
    exif[0x0112] = 6  # the top of the picture is at its right
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    expected, _, _ = read_image(tmp_path / "picture.png", patches(), None)
    np.testing.assert_array_equal(read_image(tmp_path / "turned.png", patches(), None)[0], expected)


def test_pixels_as_the_model_reads_them_are_taken_as_they_are(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).standard_normal((3, 32, 32))
    np.save(tmp_path / "pixels.npy", pixels.astype(np.float32)[None])
    found, told, _ = read_image(tmp_path / "pixels.npy", patches(), None)
    np.testing.assert_allclose(found, blocks(pixels), atol=1e-6)
    assert told == "pixels.npy: pixels as the model reads them"
    torch = pytest.importorskip("torch")
    np.testing.assert_allclose(read_image(torch.tensor(pixels), patches(), None)[0], blocks(pixels))


def test_a_file_of_another_size_is_fitted_and_told(tmp_path: Path) -> None:
    values = {"size": {"shortest_edge": 256}, "crop_size": 224, "do_center_crop": True}
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    found, told, warnings = read_image(picture(tmp_path), patches(), tmp_path)
    assert found.shape == (16, 192)
    assert warnings == (
        "preprocessor_config.json ends in 224 x 224 pixels and the configuration reads 32 x 32: "
        "the image is resized to that",
    )
    assert "shorter side resized to 37 (bicubic), centre of 32 x 32 kept" in told
    # The rest that makes no whole patch is not read: 384 pixels in 27 patches of 14.
    (tmp_path / "preprocessor_config.json").write_text('{"size": 384}')
    odd = patches(image_size=384, patch_size=14)
    found, _, warnings = read_image(picture(tmp_path), odd, tmp_path)
    assert found.shape == (27**2, 3 * 14**2)
    assert warnings == ()


@pytest.mark.parametrize(
    ("values", "says"),
    [
        ({"size": "large"}, "size is 'large'"),
        ({"size": {"longest_edge": 32}}, "size is {'longest_edge': 32}"),
        ({"size": {"shortest_edge": 0}}, "size is"),
        ({"size": 10**9}, "size is 1000000000"),
        ({"crop_size": [1, 2, 3]}, "crop_size is"),
        ({"do_resize": 1}, "do_resize is 1; write true or false"),
        ({"image_mean": [0.5]}, "image_mean is .*; write 3 numbers"),
        ({"image_std": 0.0}, "image_std is 0.0; write numbers of at least 1e-06"),
        ({"rescale_factor": "x"}, "rescale_factor is 'x'"),
        ({"resample": 9}, "resample is 9; write a filter of Pillow"),
        ([], "holds no JSON object"),
    ],
)
def test_a_preprocessor_that_is_not_understood(tmp_path: Path, values: Any, says: str) -> None:
    (tmp_path / "preprocessor_config.json").write_text(json.dumps(values))
    with pytest.raises(ConfigError, match=says):
        read_image(picture(tmp_path), patches(), tmp_path)


def test_what_does_not_fit(tmp_path: Path) -> None:
    (tmp_path / "preprocessor_config.json").write_text('{"do_resize": false}')
    with pytest.raises(ArgumentError, match="is 45 x 60 as preprocessor_config"):
        read_image(picture(tmp_path), patches(), tmp_path)
    thin = np.zeros((1, 2**23), np.uint8)
    with pytest.raises(ArgumentError, match="pass an image that is less thin"):
        read_image(thin, patches(), None)
    with pytest.raises(ArgumentError, match="the model reads 4 channels"):
        read_image(picture(tmp_path), patches(num_channels=4), None)


@pytest.mark.parametrize(
    ("array", "says"),
    [
        (np.ones((3, 20, 20)), r"has shape \(3, 20, 20\)"),
        (np.ones((3, 32, 32), np.uint8), r"has shape \(3, 32, 32\)"),
        (np.ones(5), r"has shape \(5,\)"),
        (np.ones((0, 4, 3)), r"has shape \(0, 4, 3\)"),
        (-np.ones((4, 4)), "values from -1 to -1"),
        (300 * np.ones((4, 4)), "values from 300 to 300"),
        (2.5 * np.ones((4, 4)), "values from 2.5 to 2.5"),
        (np.full((4, 4), np.nan), "NaN"),
        (np.full((3, 32, 32), 1e9), r"has values up to 1e\+09"),
    ],
)
def test_arrays_that_are_no_image(array: np.ndarray, says: str) -> None:
    with pytest.raises(ArgumentError, match=says) as caught:
        read_image(array, patches(), None)
    assert caught.value.argument == "image"


@pytest.mark.parametrize("content", [b"GIF89a", b"\x89PNG\r\n\x1a\n", b"%!PS-Adobe", b"text"])
def test_files_that_are_no_image(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(ArgumentError, match=r"a.png cannot be read as an image"):
        read_image(tmp_path / "a.png", patches(), None)
