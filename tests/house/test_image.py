"""Reading images: every kind is handled or refused in one clear line."""

import cv2
import numpy as np
import pytest
from helpers import broken_files, encoded
from PIL import Image
from skimage.data import astronaut

from actfer_env.errors import ImageError
from actfer_env.images import ImageLimits, readable_suffixes
from actfer_env.tools import find_images, load_image


@pytest.fixture
def portrait():
    return Image.fromarray(astronaut())


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_orientation_is_applied(tmp_path, portrait, orientation):
    upright = portrait.crop((0, 0, 512, 300))
    inverse = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
               5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
               8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = upright.transpose(inverse[orientation]) if orientation > 1 else upright
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored.save(tmp_path / "photo.png", exif=exif)
    assert (load_image(tmp_path / "photo.png") == np.asarray(upright)).all()


def test_grey_becomes_three_equal_channels(portrait):
    image = load_image(encoded(portrait.convert("L"), "PNG"))
    assert image.shape == (512, 512, 3) and (image[..., 0] == image[..., 2]).all()


def test_sixteen_bit_grey_is_scaled_not_clipped(tmp_path):
    ramp = np.linspace(0, 65535, 64 * 64).reshape(64, 64).astype(np.uint16)
    Image.fromarray(ramp).save(tmp_path / "deep.png")
    image = load_image(tmp_path / "deep.png")
    assert image[0, 0, 0] == 0 and image[-1, -1, 0] == 255 and 120 < image[32, 0, 0] < 136


@pytest.mark.parametrize("bits", [8, 10, 12, 14, 16])
def test_pixels_of_sixteen_bits_are_scaled_by_the_depth_that_they_use(tmp_path, portrait, bits):
    white, colours = 2**bits - 1, np.asarray(portrait)
    deep = np.rint(colours / 255.0 * white).astype(np.uint16)
    Image.fromarray(deep[..., 1]).save(tmp_path / "grey.png")
    Image.fromarray(deep[..., 1]).save(tmp_path / "grey.tif")
    for name in ("colour.png", "colour.tif"):
        cv2.imwrite(str(tmp_path / name), deep[..., ::-1])
    cv2.imwrite(str(tmp_path / "alpha.png"), np.dstack([deep[..., ::-1], np.full((512, 512), 65535, np.uint16)]))
    grey = np.repeat(colours[..., 1:2], 3, axis=2)
    for source in (deep[..., 1], tmp_path / "grey.png", tmp_path / "grey.tif"):
        assert (load_image(source) == grey).all()
    for source in (deep, tmp_path / "colour.png", (tmp_path / "colour.png").read_bytes(), tmp_path / "colour.tif",
                   tmp_path / "alpha.png"):  # fmt: skip
        assert (load_image(source) == colours).all()


def test_black_of_sixteen_bits_stays_black(tmp_path):
    Image.fromarray(np.zeros((20, 20), np.uint16)).save(tmp_path / "black.png")
    assert load_image(tmp_path / "black.png").max() == 0


@pytest.mark.parametrize("size", [(6000, 20), (20, 6000), (16, 5000)])
def test_pictures_too_narrow_to_hold_a_face_are_refused_in_one_line(tmp_path, portrait, size):
    portrait.resize(size).save(tmp_path / "a.png")
    for source in (tmp_path / "a.png", np.asarray(portrait.resize(size))):
        with pytest.raises(ImageError, match="is too narrow; crop it to at most 100 to 1"):
            load_image(source)
    assert load_image(portrait.resize((2000, 20))).shape == (20, 2000, 3)


def test_transparency_lies_over_white(portrait):
    clear = portrait.copy()
    clear.putalpha(0)
    assert (load_image(encoded(clear, "PNG")) == 255).all()
    assert (load_image(np.zeros((20, 20, 4), np.uint8)) == 255).all()


def test_cmyk_and_palette_are_converted(portrait):
    original = np.asarray(portrait).astype(int)
    for data in (encoded(portrait.convert("CMYK"), "JPEG", quality=95), encoded(portrait.quantize(256), "PNG")):
        assert np.abs(load_image(data).astype(int) - original).mean() < 12


def test_arrays_of_every_kind():
    assert load_image(np.full((20, 30), 7, np.uint8)).tolist()[0][0] == [7, 7, 7]
    assert load_image(np.full((20, 30, 1), 65535, np.uint16)).max() == 255
    assert load_image(np.full((20, 30, 3), 0.5)).max() == 128
    for bad in (np.zeros((20, 30, 2), np.uint8), np.zeros(5), np.full((20, 30), np.nan), np.full((20, 30), 3.0),
                np.zeros((20, 30), np.int64)):  # fmt: skip
        with pytest.raises(ImageError):
            load_image(bad)


def test_broken_files_are_refused_in_one_line_that_names_them(tmp_path, portrait):
    for name, reason in broken_files(tmp_path, portrait).items():
        with pytest.raises(ImageError, match=reason) as caught:
            load_image(tmp_path / name)
        assert name in str(caught.value) and "\n" not in str(caught.value)


def test_missing_file_and_folder(tmp_path):
    with pytest.raises(ImageError, match="no such file"):
        load_image(tmp_path / "nowhere.jpg")
    with pytest.raises(ImageError, match="is a folder"):
        load_image(tmp_path)


def test_limits_are_adjustable(portrait):
    with pytest.raises(ImageError, match="512 x 512"):
        load_image(portrait, limits=ImageLimits(max_pixels=1000))


def files(folder, *names):
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (20, 20)).save(folder / name, "PNG")


def found(folder):
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


@pytest.mark.parametrize(
    "name",
    ["happy/.ipynb_checkpoints/a-checkpoint.png", "happy/._a.png", "__MACOSX/happy/._a.png", "__MACOSX/a.png",
     ".trashed-1700000000-a.png", ".thumbnails/a.png", "@eaDir/a.png", "Thumbs.db/a.png", ".DS_Store/a.png",
     "$RECYCLE.BIN/a.png"],
)  # fmt: skip
def test_what_systems_leave_behind_is_no_photo(tmp_path, name):
    files(tmp_path, "happy/a.png", name)
    assert found(tmp_path) == ["happy/a.png"]


def test_a_folder_that_is_hidden_itself_can_be_named(tmp_path):
    files(tmp_path / ".photos", "a.png")
    assert found(tmp_path / ".photos") == ["a.png"] and find_images(tmp_path / ".photos" / "a.png")


def test_links_to_folders_are_followed_once(tmp_path):
    files(tmp_path / "store", "1.png")
    files(tmp_path / "set", "happy/a.png")
    (tmp_path / "set" / "sad").symlink_to(tmp_path / "store")  # from elsewhere: followed
    (tmp_path / "set" / "sorrow").symlink_to(tmp_path / "store")  # a second way there: not
    (tmp_path / "set" / "all").symlink_to(tmp_path / "set" / "happy")  # what lies here goes by its own name
    (tmp_path / "set" / "happy" / "loop").symlink_to(tmp_path / "set")
    (tmp_path / "set" / "gone").symlink_to(tmp_path / "nowhere")
    assert found(tmp_path / "set") == ["happy/a.png", "sad/1.png"]
    (tmp_path / "link").symlink_to(tmp_path / "set")
    assert found(tmp_path / "link") == ["happy/a.png", "sad/1.png"]


@pytest.mark.parametrize(
    "suffix", [".jfif", ".jpe", ".JPG", ".pgm", ".ppm", ".pbm", ".pnm", ".TIF", ".webp", ".bmp", ".mpo"]
)
def test_pictures_that_pillow_reads_are_found(tmp_path, suffix):
    files(tmp_path, f"a{suffix}", "notes.txt", "b.pdf")
    assert found(tmp_path) == [f"a{suffix}"] and load_image(tmp_path / f"a{suffix}").shape == (20, 20, 3)


def test_pictures_that_cannot_be_read_are_named_in_one_line(tmp_path):
    files(tmp_path, "a.png", "b.CR2", "c.dng", "sub/d.nef")
    with pytest.warns(
        UserWarning, match=r"left out 3 pictures that cannot be read here \(\.cr2, \.dng, \.nef\), such as"
    ) as told:
        assert found(tmp_path) == ["a.png"]
    assert len(told) == 1
    (tmp_path / "a.png").unlink()
    with pytest.raises(ImageError, match="no images in this folder but 3 pictures that cannot be read"):
        find_images(tmp_path)


def test_a_format_counts_where_pillow_has_it(monkeypatch):
    monkeypatch.setattr(Image, "registered_extensions", lambda: {".png": "PNG", ".heic": "HEIF"})
    readable_suffixes.cache_clear()
    try:
        assert {".png"} <= readable_suffixes() and ".heic" not in readable_suffixes()
        monkeypatch.setitem(Image.OPEN, "HEIF", None)
        readable_suffixes.cache_clear()
        assert {".png", ".heic"} <= readable_suffixes()
    finally:
        readable_suffixes.cache_clear()


def test_find_images(tmp_path):
    with pytest.raises(ImageError, match="no images"):
        find_images(tmp_path)
    with pytest.raises(ImageError, match="no such file or folder"):
        find_images(tmp_path / "x")
    (tmp_path / "b").mkdir()
    for name in ("b/2.JPG", "1.png", "notes.txt"):
        (tmp_path / name).touch()
    assert [p.name for p in find_images(tmp_path)] == ["1.png", "2.JPG"]
