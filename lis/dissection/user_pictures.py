"""A user's own pictures as they lie in a folder, each of the class that its folder inside is called."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from lis.config import RunConfig
from lis.context import Context
from lis.labels.files import Size
from lis.labels.reading import MASK
from lis.names import printable
from lis.store import sha256
from lis.units.photos import read_photo

ENDINGS = (".png", ".jpg", ".jpeg", ".webp")
"""Of pictures, in either case."""
MOST = 10_000
"""Pictures in a folder and those inside."""
_MOST_PROBLEMS = 20


def of_folder(ctx: Context) -> bool:
    """Whether the pictures of a dissection are those of the folder `images`, for which the stage `images` asks too."""
    return ctx.config.images is not None and "images" not in ctx.config.analysis.stages


@dataclass(frozen=True)
class UserPicture:
    """A picture of a folder."""

    folder: Path
    """Of all pictures."""
    name: str
    """From the folder on."""

    @property
    def path(self) -> Path:
        """Where it lies."""
        return self.folder / self.name

    @property
    def class_name(self) -> str:
        """The folder inside that the picture lies in; where it lies in none, that of all pictures."""
        first, _, rest = self.name.partition("/")
        return first if rest else self.folder.resolve().name

    @property
    def content(self) -> tuple[str, str, str]:
        """What a result follows from: its name, its class, and the SHA-256 of its file."""
        return printable(self.name), printable(self.class_name), sha256(self.path)

    def read(self, size: int) -> tuple[Tensor, Size, str]:
        """The picture, turned as its EXIF data say, cut to its centred square and resized, `[3, size, size]` uint8.

        Beside it height and width before it was cut, as it is seen and not as its file holds it, and what else was done
        to it (`Photo.note`).

        Raises:
            ValueError: it cannot be read.
        """
        photo = read_photo(self.path, size, self.folder)
        if photo.image is None:
            raise ValueError(f"{self.path}: {photo.reason}")
        return photo.image, (photo.height, photo.width), photo.note


def user_pictures(config: RunConfig) -> list[UserPicture]:
    """The pictures of `images`, by name, without those of `labels.folder`.

    Raises:
        ValueError: there is no such folder, or as `picture_names`.
    """
    if config.images is None or not Path(config.images).is_dir():
        raise ValueError(f"images={config.images}: expected a folder of PNG, JPEG or WebP pictures")
    folder = Path(config.images)
    masks = None if config.labels.folder is None else Path(config.labels.folder)
    return [UserPicture(folder, name) for name in picture_names(folder, masks)]


def picture_names(images: Path, masks: Path | None) -> list[str]:
    """Pictures of a folder and those inside, but for hidden ones and masks, from the folder on.

    Raises:
        ValueError: there is none, or more than `MOST`; or the pictures lie inside the folder of masks.
    """
    if masks is not None and masks.resolve() in images.resolve().parents:
        raise ValueError(
            f"images={images} lies inside labels.folder={masks}, where every picture is a mask: move the pictures or "
            "the masks, so that the pictures are outside of the folder of masks"
        )
    others = None if masks is None or masks.resolve() == images.resolve() else masks.resolve()
    names = [path.relative_to(images).as_posix() for path in sorted(images.rglob("*")) if _is_picture(path, others)]
    names = [name for name in names if not is_hidden(name)]
    if not 1 <= len(names) <= MOST:
        raise ValueError(f"images={images} has {len(names)} pictures: expected 1 to {MOST:,} PNG, JPEG or WebP files")
    return names


def _is_picture(path: Path, masks: Path | None) -> bool:
    """Whether a file's name is that of a picture outside of the folder of masks."""
    named = path.suffix.lower() in ENDINGS and not path.name.endswith(MASK)
    return named and path.is_file() and (masks is None or not path.resolve().is_relative_to(masks))


def is_hidden(name: str) -> bool:
    """Whether a file, or a folder that it lies in, is hidden by its name from a folder on."""
    return any(part.startswith(".") for part in name.split("/"))


def refuse(problems: Iterable[str]) -> None:
    """Raise what is wrong with files, up to 20 lines, where anything is.

    Raises:
        ValueError: there is a problem.
    """
    if lines := list(problems):
        more = [f"… and {len(lines) - _MOST_PROBLEMS} more"] if len(lines) > _MOST_PROBLEMS else []
        raise ValueError("\n".join([*lines[:_MOST_PROBLEMS], *more]))
