"""dvc push and dvc pull with an S3 server on the loopback; needs dvc-s3 and moto, which `make install` leaves out."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from clones import Clone, files_of
from running import is_up_to_date
from tally import Tally

pytestmark = pytest.mark.usefixtures("real_programs")

WHY = "needs dvc-s3 and moto[server]; CONTRIBUTING.md says how to install them"


@pytest.fixture
def endpoint() -> Iterator[str]:
    """The address of an empty server with one bucket."""
    server_module = pytest.importorskip("moto.server", reason=WHY)
    boto3 = pytest.importorskip("boto3", reason=WHY)
    pytest.importorskip("dvc_s3", reason=WHY)
    server = server_module.ThreadedMotoServer(ip_address="127.0.0.1", port=0)
    server.start()
    address = "http://{}:{}".format(*server.get_host_and_port())
    keys = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": "us-east-1"}
    boto3.client("s3", endpoint_url=address, **keys).create_bucket(Bucket="lab")
    yield address
    server.stop()


@pytest.mark.stress
def test_another_clone_pulls_from_s3_what_was_pushed_there(reproduced: Clone, tmp_path: Path, endpoint: str, tally: Tally) -> None:
    author = reproduced.copy(tmp_path / "author")
    author.dvc("remote", "add", "--default", "lab", "s3://lab/affectnet")
    for name, value in (("endpointurl", endpoint), ("region", "us-east-1")):
        author.dvc("remote", "modify", "lab", name, value)
    author.git("commit", "--quiet", "--all", "--message", "the lab's remote")
    author.git("clone", "--quiet", ".", str(tmp_path / "reader"))
    reader = Clone(tmp_path / "reader")
    for clone in (author, reader):  # keys belong to the machine and are never in Git
        for name in ("access_key_id", "secret_access_key"):
            clone.dvc("remote", "modify", "--local", "lab", name, "test")
    author.dvc("push")
    reader.dvc("pull")
    assert files_of(reader.folder, "data", "models", "metrics") == files_of(author.folder, "data", "models", "metrics")
    assert is_up_to_date(reader.dvc("status")) and reader.git("status", "--porcelain") == ""
    tally("dvc push and dvc pull by S3", "equal files, status clean")
