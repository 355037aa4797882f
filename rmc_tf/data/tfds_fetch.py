"""How a TFDS data set comes to be on disk: digits is built in, others are downloaded."""

import pathlib
import re
import socket
import urllib.parse
import urllib.request
from typing import Any

import tensorflow_datasets as tfds

from rmc_tf.common.errors import DISK_ERRORS, UserError, first_line
from rmc_tf.config import DatasetConfig
from rmc_tf.data.tfds_store import store_digits


def builder(config: DatasetConfig) -> Any:
    """Returns a TFDS builder whose files are on disk, and puts them there if they aren't.

    Raises:
      UserError: TFDS doesn't know the data set, or can't fetch it.
    """
    folder = str(pathlib.Path(config.data_dir).expanduser()) if config.data_dir else None
    where: dict[str, Any] = {"data_dir": folder} if folder else {}
    try:
        return tfds.core.read_only_builder.builder_from_files(config.name, **where)
    except tfds.core.registered.DatasetNotFoundError:
        pass
    except ValueError as error:
        raise UserError(f"--config.dataset.name={config.name}: {error}") from None
    if config.name == "digits":
        store_digits(config.data_dir)
        return tfds.core.read_only_builder.builder_from_files("digits", **where)
    try:
        builder = tfds.builder(config.name, try_gcs=False, **where)
    except (tfds.core.registered.DatasetNotFoundError, ValueError, AssertionError) as error:
        raise UserError(
            f"--config.dataset.name={config.name}: TFDS doesn't know it ({first_line(error)}); "
            "see its catalogue, or make a data set from raw files by tools/prepare_dataset.py"
        ) from None
    remedy = (
        f"it isn't in {builder.data_dir_root}; put it there on a machine that reaches it, make it "
        "from raw files by tools/prepare_dataset.py, or name its folder by --data_dir"
    )
    if not config.download:
        raise UserError(f"--config.dataset.download=False: {config.name} is needed, but {remedy}")
    if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
        _check_manual(config.name, builder)
        builder = tfds.builder(config.name, try_gcs=False, file_format="array_record", **where)
    _check_reachable(config.name, builder, remedy)
    try:
        builder.download_and_prepare(
            download_config=tfds.download.DownloadConfig(try_download_gcs=False)
        )
    except Exception as error:  # TFDS and its downloaders raise dozens of types
        if isinstance(error, OSError) and error.errno in DISK_ERRORS:
            raise
        if builder.MANUAL_DOWNLOAD_INSTRUCTIONS:
            remedy = "mend what is there, or name a folder of images by --config.dataset.folder=DIR"
        failed = f"preparing it failed ({first_line(error)}); {remedy}"
        raise UserError(f"--config.dataset.name={config.name}: {failed}") from error
    return builder


def _check_reachable(name: str, builder: Any, remedy: str) -> None:
    """Fails within a second where TFDS' downloader would retry for minutes."""
    if urllib.request.getproxies():
        return  # names are then looked up elsewhere
    manual = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    urls = [urllib.parse.urlsplit(url) for url in builder.url_infos or ()]
    # What was fetched by hand isn't fetched again.
    hosts = {url.hostname for url in urls if not (manual / pathlib.Path(url.path).name).is_file()}
    for host in sorted(host for host in hosts if host):
        try:
            socket.getaddrinfo(host, 443)
        except OSError as error:
            raise UserError(
                f"--config.dataset.name={name}: it can't be downloaded ({error}), and {remedy}"
            ) from None


def _check_manual(name: str, builder: Any) -> None:
    """Says at once which files a user has to fetch by hand, where TFDS would name some later.

    An archive may be unpacked already. What TFDS then lacks, it says itself.
    """
    folder = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    asked = " ".join(builder.MANUAL_DOWNLOAD_INSTRUCTIONS.split())
    archives = re.findall(r"([\w.-]+?)(\.(?:tar\.gz|tar|tgz|zip|rar|7z))\b", asked)
    missing = [
        stem + ending
        for stem, ending in archives
        if not (folder / (stem + ending)).is_file() and not (folder / stem).is_dir()
    ]
    to_unpack = re.search(r"\b(unpack|extract|unzip|untar|decompress)", asked, re.IGNORECASE)
    if not folder.is_dir() or not any(folder.iterdir()) or (missing and not to_unpack):
        raise UserError(
            f"--config.dataset.name={name}: {', '.join(missing) or 'nothing'} isn't in {folder}; "
            f"put it there ({asked}), or name a folder of images by --config.dataset.folder=DIR"
        )
