"""Read one image file of any size and mode, and turn it into the pixels that a data set holds.

An image is cropped to the square in its middle and resized, as generative models usually see photographs. EXIF
orientation is applied, and transparent parts become white.
"""

import hashlib
import io
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from cvae.support.errors import one_line


@dataclass(frozen=True)
class Picture:
    """One image: its file and the hash of the file, its width and height there, and its pixels, (image_dims,)."""

    path: Path
    digest: bytes
    size: tuple[int, int]
    pixels: np.ndarray = field(repr=False)

    @property
    def position(self) -> float:
        """The hash as a number from 0 to 1."""
        return int.from_bytes(self.digest[:8]) / 2**64


def read_or_say_why(path: Path, image_size: int, channels: int) -> Picture | str:
    """Return the image in `path`, or the reason why it cannot be used."""
    try:
        if not path.is_file():
            return "not a file"
        content = path.read_bytes()
        with Image.open(io.BytesIO(content)) as image:
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":  # cameras add previews to a JPEG as MPO
                return "animated, or of several pages"
            size = image.size
            image.draft(None, (3 * image_size, 3 * image_size))  # a JPEG need not be decoded at full size
            pixels = np.asarray(_resized(_eight_bits(image), image_size, channels)).reshape(-1)
        return Picture(path, hashlib.sha256(content).digest(), size, pixels)
    except UnidentifiedImageError:
        is_named_image = path.suffix.lower() in Image.registered_extensions()
        return "broken: no image in it" if is_named_image else "not an image"
    except MemoryError:
        raise
    except Exception as error:  # Pillow's readers raise almost anything on a damaged file
        return f"broken: {one_line(error)[:100]}"


def _eight_bits(image: Image.Image) -> Image.Image:
    """Return `image` with 8 bits for each value, if it is grey with 16."""
    if image.mode == "F":
        raise ValueError("its pixels are real numbers, whose range is unknown")
    if not image.mode.startswith("I"):
        return image
    values = np.asarray(image)
    if values.min() < 0 or values.max() > 65535:
        raise ValueError("its pixels have 32 bits")
    eight = Image.fromarray(((values.astype(np.uint32) + 128) // 257).astype(np.uint8))
    eight.info["exif"] = image.getexif().tobytes()
    return eight


def _resized(image: Image.Image, image_size: int, channels: int) -> Image.Image:
    image = ImageOps.exif_transpose(image)
    if image.has_transparency_data:
        image = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image.convert("RGBA"))
    image = image.convert("RGB" if channels == 3 else "L")
    side = min(image.size)
    left, top = ((length - side) / 2 for length in image.size)
    square = (left, top, left + side, top + side)
    return image.resize((image_size, image_size), Image.Resampling.BICUBIC, square, reducing_gap=3)
