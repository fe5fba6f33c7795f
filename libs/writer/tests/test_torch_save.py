"""What `torch.save` makes of a writer, on a server in another process."""

from __future__ import annotations

import io
from typing import TYPE_CHECKING

import pytest

from s3torch.client import S3ClientConfig, S3NotFoundError
from s3torch.writer import WriterClient

if TYPE_CHECKING:
    from s3torch.harness.servers import MotoServer

torch = pytest.importorskip("torch")
pytestmark = pytest.mark.usefixtures("dummy_aws_env")


@pytest.fixture(params=["direct", "boto3"])
def client(request: pytest.FixtureRequest, moto_server: MotoServer) -> WriterClient:
    config = S3ClientConfig(part_size=5 << 20, force_path_style=True, engine=request.param)
    return WriterClient(moto_server.region, endpoint=moto_server.endpoint, s3client_config=config)


def test_torch_save_arrives(client: WriterClient, s3_bucket: str) -> None:
    state = {f"layer{number}": torch.randn(257, 1031 * number) for number in range(1, 6)} | {"step": 7, "none": None}
    with client.put_object(s3_bucket, "model.pt") as writer:
        torch.save(state, writer)
    loaded = torch.load(io.BytesIO(client.read(s3_bucket, "model.pt")))
    assert loaded.keys() == state.keys()
    assert all(torch.equal(loaded[key], state[key]) for key in state if key.startswith("layer"))


@pytest.mark.parametrize("elements", [10, 5 << 20])
def test_the_true_error_leaves_the_block(client: WriterClient, elements: int) -> None:
    def save() -> None:
        with client.put_object("no-such-bucket", "model.pt") as writer:
            torch.save({"a": torch.zeros(elements), "b": torch.zeros(elements)}, writer)

    with pytest.raises(S3NotFoundError) as caught:
        save()
    assert caught.value.bucket == "no-such-bucket"
