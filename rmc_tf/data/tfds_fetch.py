"""How a TFDS data set comes to be on disk: digits is built in, others are downloaded."""

import pathlib
import re
from typing import Any
from urllib.parse import urlsplit

import requests
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
    """Fails within seconds where TFDS' downloader, which knows no timeout, would wait for minutes.

    It asks as TFDS does, by way of a proxy where the environment names one. One host that answers
    is enough: a data set lists addresses of all its versions, and some may be gone.
    """
    manual = pathlib.Path(builder.data_dir_root) / "downloads" / "manual"
    urls = [url for url in builder.url_infos or () if url.startswith("http")]
    # What was fetched by hand isn't fetched again.
    urls = [url for url in urls if not (manual / pathlib.Path(urlsplit(url).path).name).is_file()]
    one_a_host = {urlsplit(url).hostname: url for url in urls}
    failed = ""
    for host, url in list(one_a_host.items())[:_MOST_HOSTS]:
        proxy = requests.utils.select_proxy(url, requests.utils.get_environ_proxies(url))
        try:
            with requests.get(url, stream=True, timeout=_SECONDS) as answer:
                if answer.status_code not in _GATEWAY_ERRORS:
                    return
                told = f"{answer.status_code} {answer.reason}"
        except requests.RequestException as error:
            told = _innermost(error)
        by = ""
        if proxy:  # without the password that it may hold
            by = f" by {urlsplit(url).scheme}_proxy={urlsplit(proxy).netloc.rpartition('@')[2]}"
        failed = f"{host}{by}: {told}"
    if failed:
        raise UserError(
            f"--config.dataset.name={name}: it can't be downloaded ({failed}), and {remedy}"
        )


_SECONDS = 15.0
"""How long a host may take to answer, or a proxy in its place."""
_MOST_HOSTS = 3
_GATEWAY_ERRORS = (502, 503, 504)
"""What a proxy answers that doesn't reach the host."""


def _innermost(error: BaseException) -> str:
    """Returns what the system said, out of the errors that libraries have wrapped around it."""
    while error.__context__ is not None:
        error = error.__context__
    return getattr(error, "strerror", None) or first_line(error)


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
