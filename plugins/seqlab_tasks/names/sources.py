"""Where names come from."""

from collections.abc import Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path

from seqlab import cache_folder
from seqlab_tasks.download import fetch_archive

TUTORIAL = "https://download.pytorch.org/tutorial/data.zip"
"""The archive of PyTorch's tutorial on names."""

TUTORIAL_FILES = {
    "data/names/Arabic.txt": "6f424a8dbe51cbbbabab7a57d38b617210125e4e3991f3c657cb79b8f104bafc",
    "data/names/Chinese.txt": "49263ef55a8cb1740e841d65cad8214b2f9b5b869bc534c811746422496fa91e",
    "data/names/Czech.txt": "145bbbd6d0816578f03388e92c264d39ef1c60df920b081d371fa5c5cc055a8e",
    "data/names/Dutch.txt": "924f32b635170eae561f84538632138fc07d4c8bbd70ba3fb980de1ecc4d2af3",
    "data/names/English.txt": "9cca037066d3d5989e24bc01801416162de506b5e28e15b7c092a47905d29bf2",
    "data/names/French.txt": "81e65b36c60ed5b89a17422f6edcadbb89546f38ad69e960e64e7ba682012a95",
    "data/names/German.txt": "7449cd590b97a733e18d613a4155decd77ec35dc5f8aadd7a82204dce4f051db",
    "data/names/Greek.txt": "3555b5186de7f401e6d991b088e9e644ca3099116477818c25ab5793801389e6",
    "data/names/Irish.txt": "cf8c7013256252a88d2503127b87282a11f21b2ff6db1bded68834c19a1ec058",
    "data/names/Italian.txt": "f88414c27d0606a11a678b4859277828c2565d6cc4d9ee932deef6e94f3b35e4",
    "data/names/Japanese.txt": "e0e717e114fec3e7eade4d9dabe0067c475f43147e36a22b47902ee76ad9e67f",
    "data/names/Korean.txt": "cd54221ccb362a6cba4c78828838cf3268a0e59744767a37cf6ec4b74036b136",
    "data/names/Polish.txt": "45bab898af2f60ed3a728bbf6980e28821011a7caa53227553b5785903a40826",
    "data/names/Portuguese.txt": "50a8735f41f4f73757c8ce5b16cb0275cd86b2b214bcbc8c9805f508cb131c53",
    "data/names/Russian.txt": "43b3e64ce351f77f1ac9e0cdf7566012d127f4371875fd25208845b5c9d6f7c3",
    "data/names/Scottish.txt": "78d0252711d87d948ea86fe34826c51d2d794a8e52d15b5d6f7b6244d45d62dd",
    "data/names/Spanish.txt": "1bcb462ed3316756a85781d68232bddae04498fdddd5d9219c53fd1fbdeba7a7",
    "data/names/Vietnamese.txt": "f3f9e4164ab47601178a6e45b216464a64122f49d05541f24bf18a757253281d",
}
"""sha256 of the archive's files of names."""


def bundled() -> list[Traversable]:
    """List the files that come with seqlab."""
    return _texts(files("seqlab_tasks.names") / "data")


def tutorial(address: str = TUTORIAL, members: Mapping[str, str] = TUTORIAL_FILES) -> list[Traversable]:
    """List the 20,074 names of PyTorch's tutorial, fetched if they are not in the cache.

    Raises:
        ValueError, OSError: they cannot be had; the message says what else to do.
    """
    folder = cache_folder() / "names-pytorch-tutorial"
    try:
        fetch_archive(address, members, folder)
    except (ValueError, OSError) as error:
        way_out = f"Put the files of its folder data/names into {folder}, set task.data_dir, or use task.source=bundled"
        raise type(error)(f"task.source=pytorch-tutorial: {error}. {way_out}") from error
    return [folder / path.rpartition("/")[2] for path in members]


def folder_of(data_dir: str) -> list[Traversable]:
    """List the files of a user's folder.

    Raises:
        ValueError: there is no such folder, or no ``.txt`` file in it.
    """
    folder = Path(data_dir).expanduser()
    if not folder.exists():
        raise ValueError(f"task.data_dir={data_dir}: there is no such folder")
    if not folder.is_dir():
        raise ValueError(f"task.data_dir={data_dir} is no folder; it must be one that holds <Class>.txt")
    if not (found := _texts(folder)):
        raise ValueError(f"task.data_dir={data_dir} holds no .txt file; it must hold <Class>.txt, one name a line")
    return found


def _texts(folder: Traversable) -> list[Traversable]:
    """List the text files of a folder by name; hidden ones are not meant."""
    found = (file for file in folder.iterdir() if file.name.lower().endswith(".txt") and file.name[0] != ".")
    return sorted((file for file in found if file.is_file()), key=lambda file: file.name)
