"""Blobs in S3 or what speaks its protocol; conditional writes decide between writers.

Credentials come from where every S3 client looks: the environment, a profile, the machine's role.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final, TypeVar

import boto3
from boto3.exceptions import RetriesExceededError
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError, HTTPClientError, IncompleteReadError
from botocore.exceptions import ConnectionError as NotConnected

from asterism.core.errors import ConfigError, UnknownIdError
from asterism.stores.blobs import Blob, checked_name
from asterism.stores.reaching import Reach, Tries
from asterism.stores.urls import StoreUrl

T = TypeVar("T")

_ABSENT: Final = {"NoSuchKey", "404", "NotFound"}
_BEATEN: Final = {"PreconditionFailed", "ConditionalRequestConflict", "412", "409"}
_SERVER_ERROR: Final = 500


class _BusyError(Exception):
    """The store answered that it cannot just now."""


class S3Blobs:
    """Implements `Blobs` in a bucket: `s3://bucket/prefix?endpoint=http://minio:9000&region=eu-central-1`."""

    def __init__(self, url: str, *, timeout_seconds: float = 5.0, tries: Tries | None = None) -> None:
        """Nothing is asked yet; raises `ConfigError` on a URL without a bucket."""
        parsed = StoreUrl.parse(url)
        parsed.only("endpoint", "region")
        self._bucket, _, prefix = parsed.rest.partition("/")
        if not self._bucket:
            raise ConfigError(f"{parsed.shown!r} names no bucket; write it like 's3://bucket/prefix'")
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""
        endpoint = parsed.options.get("endpoint")
        config = Config(
            connect_timeout=timeout_seconds,
            read_timeout=timeout_seconds,
            retries={"total_max_attempts": 1},  # `Reach` tries again, and knows when to stop
            max_pool_connections=32,
            s3={"addressing_style": "path"} if endpoint else {},
        )
        region = parsed.option("region", "us-east-1")
        try:
            self._client: Any = boto3.client("s3", endpoint_url=endpoint, region_name=region, config=config)
        except (ValueError, BotoCoreError) as error:
            raise ConfigError(
                f"{parsed.text!r}: {error}; write it like 's3://bucket/prefix?endpoint=http://host:9000&region=us-east-1'"
            ) from error
        self._reach = Reach(
            "S3",
            f"s3://{parsed.rest}" + (f" ({endpoint})" if endpoint else ""),
            (HTTPClientError, NotConnected, IncompleteReadError, RetriesExceededError, _BusyError, OSError),
            (ClientError, BotoCoreError),
            tries or Tries(deadline_seconds=3 * timeout_seconds),
        )

    def put(self, name: str, data: bytes) -> None:
        """See `Blobs.put`."""
        self._call(lambda: self._client.put_object(**self._at(name), Body=data))

    def create(self, name: str, data: bytes) -> bool:
        """See `Blobs.create`; a try that is repeated after a lost answer may tell the winner that it lost."""
        return self._conditional(name, data, {"IfNoneMatch": "*"})

    def replace(self, name: str, data: bytes, tag: str) -> bool:
        """See `Blobs.replace`; see `create`."""
        return self._conditional(name, data, {"IfMatch": tag})

    def get(self, name: str) -> Blob:
        """See `Blobs.get`."""

        def read() -> Blob:
            answer = self._client.get_object(**self._at(name))
            return Blob(answer["Body"].read(), answer["ETag"])

        return self._existing(name, read)

    def upload(self, name: str, file: Path) -> None:
        """See `Blobs.upload`; in parts where the file is large."""
        at = self._at(name)

        def write() -> None:
            with file.open("rb") as stream:  # given a path, the client would hide why it was refused
                self._client.upload_fileobj(stream, at["Bucket"], at["Key"])

        self._call(write)

    def download(self, name: str, file: Path) -> None:
        """See `Blobs.download`."""
        at = self._at(name)
        self._existing(name, lambda: self._client.download_file(at["Bucket"], at["Key"], str(file)))

    def names(self, prefix: str = "") -> Iterator[str]:
        """See `Blobs.names`."""
        token: dict[str, str] = {}
        while True:
            page = self._call(
                lambda token=token: self._client.list_objects_v2(  # type: ignore[misc]
                    Bucket=self._bucket, Prefix=self._prefix + prefix, **token
                )
            )
            yield from (one["Key"].removeprefix(self._prefix) for one in page.get("Contents", ()))
            if not page.get("IsTruncated"):
                return
            token = {"ContinuationToken": page["NextContinuationToken"]}

    def delete(self, name: str) -> None:
        """See `Blobs.delete`."""
        self._call(lambda: self._client.delete_object(**self._at(name)))

    def close(self) -> None:
        """See `Blobs.close`."""
        self._client.close()

    def _at(self, name: str) -> dict[str, str]:
        return {"Bucket": self._bucket, "Key": self._prefix + checked_name(name)}

    def _conditional(self, name: str, data: bytes, condition: dict[str, str]) -> bool:
        def write() -> bool:
            try:
                self._client.put_object(**self._at(name), Body=data, **condition)
            except ClientError as error:
                if _code(error) in _BEATEN | _ABSENT:
                    return False
                raise
            return True

        return self._call(write)

    def _existing(self, name: str, read: Callable[[], T]) -> T:
        def ask() -> T:
            try:
                return read()
            except ClientError as error:
                if _code(error) in _ABSENT:
                    raise UnknownIdError(f"there is no blob {name!r} in {self._reach.where}") from None
                raise

        return self._call(ask)

    def _call(self, action: Callable[[], T]) -> T:
        def ask() -> T:
            try:
                return action()
            except ClientError as error:
                if error.response["ResponseMetadata"]["HTTPStatusCode"] >= _SERVER_ERROR:
                    raise _BusyError(str(error)) from error
                raise

        return self._reach.call(ask)


def _code(error: ClientError) -> str:
    return str(error.response.get("Error", {}).get("Code"))
