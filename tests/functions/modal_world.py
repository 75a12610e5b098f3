"""Modal as far as its command line sees it: what a deploy asks for, answered with made-up ids and kept for reading.

Nothing is built and nothing runs. The wire is the installed package's own description of it.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from google.protobuf.message_factory import GetMessageClass
from grpclib.const import Cardinality, Handler
from grpclib.server import Server, Stream
from modal_proto import api_pb2

ROOT = Path(__file__).parents[2]
SERVICE = api_pb2.DESCRIPTOR.services_by_name["ModalClient"]
IMAGE_BUILDER = "2025.06"
# The mount that holds Modal's own client is the only one with a name.
OWN_MOUNT = "mo-modal"


class ModalWorld:
    """The servicer. A request that is not answered here fails as UNIMPLEMENTED, so a deploy that needs it fails."""

    def __init__(self) -> None:
        self.published: list[Any] = []
        self.functions: dict[str, Any] = {}
        self.images: list[Any] = []
        self.secrets: list[Any] = []
        self.mounts: dict[str, dict[str, bytes]] = {OWN_MOUNT: {}}
        self._files: dict[str, bytes] = {}

    def __mapping__(self) -> dict[str, Handler]:
        """What grpclib serves: every method of this class that has the name of one of Modal's."""
        known = [(method, getattr(self, method.name, None)) for method in SERVICE.methods]
        return {f"/{SERVICE.full_name}/{method.name}": handler(method, answer) for method, answer in known if answer}

    def image(self, id: str) -> list[Any]:
        """An image's layers, the first one first."""
        layer = self.images[int(id.removeprefix("im-"))]
        bases = [self.image(base.image_id) for base in layer.base_images]
        return [*(each for base in bases for each in base), layer]

    def files(self, function: Any) -> dict[str, bytes]:
        """What lies where in the function's containers, beside what its image has."""
        return {path: content for mount in function.mount_ids for path, content in self.mounts[mount].items()}

    def write(self, function: Any, folder: Path) -> None:
        """The same files below a directory, which stands for the container's root."""
        for path, content in self.files(function).items():
            written = folder / path.lstrip("/")
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_bytes(content)

    def ClientHello(self, _: Any) -> Any:  # noqa: N802 this name and those below are the wire's
        return api_pb2.ClientHelloResponse()

    def EnvironmentGetOrCreate(self, _: Any) -> Any:  # noqa: N802
        settings = api_pb2.EnvironmentSettings(image_builder_version=IMAGE_BUILDER)
        metadata = api_pb2.EnvironmentMetadata(name="main", settings=settings)
        return api_pb2.EnvironmentGetOrCreateResponse(environment_id="en-1", metadata=metadata)

    def AppGetByDeploymentName(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.AppGetByDeploymentNameResponse()

    def AppCreate(self, _: Any) -> Any:  # noqa: N802
        return api_pb2.AppCreateResponse(app_id="ap-1")

    def AppHeartbeat(self, _: Any) -> Any:  # noqa: N802
        return empty("AppHeartbeat")

    def AppClientDisconnect(self, _: Any) -> Any:  # noqa: N802
        return empty("AppClientDisconnect")

    def AppPublish(self, request: Any) -> Any:  # noqa: N802
        self.published.append(request)
        return api_pb2.AppPublishResponse(url="https://modal.test/apps/ap-1")

    def SecretGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        self.secrets.append(request)
        return api_pb2.SecretGetOrCreateResponse(secret_id=f"st-{len(self.secrets) - 1}")

    def MountBatchedCheckExistence(self, request: Any) -> Any:  # noqa: N802
        missing = [digest for digest in request.sha256_hex_hashes if digest not in self._files]
        return api_pb2.MountBatchedCheckExistenceResponse(missing_sha256_hex_hashes=missing)

    def MountPutFile(self, request: Any) -> Any:  # noqa: N802
        self._files[request.sha256_hex] = request.data
        return api_pb2.MountPutFileResponse(exists=True)

    def MountGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        if request.deployment_name:
            return api_pb2.MountGetOrCreateResponse(mount_id=OWN_MOUNT)
        id = f"mo-{len(self.mounts)}"
        self.mounts[id] = {file.filename: self._files[file.sha256_hex] for file in request.files}
        return api_pb2.MountGetOrCreateResponse(mount_id=id)

    def ImageGetOrCreate(self, request: Any) -> Any:  # noqa: N802
        self.images.append(request.image)
        built = api_pb2.GenericResult(status=api_pb2.GenericResult.GENERIC_STATUS_SUCCESS)
        metadata = api_pb2.ImageMetadata(python_version_info="Python 3.11")
        return api_pb2.ImageGetOrCreateResponse(image_id=f"im-{len(self.images) - 1}", result=built, metadata=metadata)

    def FunctionPrecreate(self, request: Any) -> Any:  # noqa: N802
        metadata = self._handle(request.function_name)
        return api_pb2.FunctionPrecreateResponse(function_id=f"fu-{request.function_name}", handle_metadata=metadata)

    def FunctionCreate(self, request: Any) -> Any:  # noqa: N802
        function = request.function
        self.functions[function.function_name] = function
        ranked = api_pb2.FunctionData.RankedFunction(function=function)
        return api_pb2.FunctionCreateResponse(
            function_id=f"fu-{function.function_name}",
            handle_metadata=self._handle(function.function_name),
            function_data=api_pb2.FunctionData(ranked_functions=[ranked]),
        )

    def _handle(self, name: str) -> Any:
        url = f"https://workspace--sandstream-{name}.modal.test"
        return api_pb2.FunctionHandleMetadata(function_name=name, web_url=url)


def handler(method: MethodDescriptor, answer: Callable[[Any], Message]) -> Handler:
    """One call: a message in, a message out."""

    async def serve(stream: Stream[Any, Any]) -> None:
        request = await stream.recv_message()
        await stream.send_message(answer(request))

    taken, given = GetMessageClass(method.input_type), GetMessageClass(method.output_type)
    return Handler(serve, Cardinality.UNARY_UNARY, taken, given)


def empty(method: str) -> Message:
    """The answer that says nothing."""
    return GetMessageClass(SERVICE.methods_by_name[method].output_type)()


@asynccontextmanager
async def serving(world: ModalWorld) -> AsyncIterator[str]:
    """The servicer on a free port of loopback; its address."""
    server = Server([world])
    await server.start("127.0.0.1", 0)
    listening = server._server
    assert listening is not None
    try:
        yield f"http://127.0.0.1:{listening.sockets[0].getsockname()[1]}"
    finally:
        server.close()
        await server.wait_closed()


async def modal(world: ModalWorld, home: Path, *arguments: str, **environment: str) -> tuple[int, str]:
    """`modal …` as a person would type it in the repository, with an account that does not exist: code and output."""
    async with serving(world) as url:
        account = {"MODAL_SERVER_URL": url, "MODAL_TOKEN_ID": "ak-made-up", "MODAL_TOKEN_SECRET": "as-made-up"}
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "modal", *arguments, cwd=ROOT,
            env={"PATH": os.environ["PATH"], "HOME": str(home), "PYTHONDONTWRITEBYTECODE": "1"} | account | environment,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
        )  # fmt: skip
        output, _ = await process.communicate()
    return process.returncode or 0, output.decode()
