"""Who may call, and who not."""

import json

import grpc
import pytest
from conftest import PASSPHRASE, serve
from google.protobuf import empty_pb2
from jumpstarter_protocol import jumpstarter_pb2, jumpstarter_pb2_grpc, router_pb2, router_pb2_grpc


@pytest.fixture
def guarded(tmp_path, authority):
    running = serve("passphrase", tmp_path, authority)
    yield running
    running.exporter.stop()


@pytest.mark.parametrize("given", [None, "wrong", PASSPHRASE + "!", ""])
def test_wrong_and_missing_passphrases_are_refused_for_every_kind_of_call(guarded, given):
    metadata = [] if given is None else [("x-jumpstarter-passphrase", given)]
    with grpc.insecure_channel(guarded.host) as channel:
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        router = router_pb2_grpc.RouterServiceStub(channel)
        calls = [
            lambda: stub.GetReport(empty_pb2.Empty(), metadata=metadata),
            lambda: list(stub.LogStream(empty_pb2.Empty(), metadata=metadata)),
            lambda: list(
                stub.StreamingDriverCall(jumpstarter_pb2.StreamingDriverCallRequest(), metadata=metadata)
            ),
            lambda: list(router.Stream(iter([]), metadata=metadata)),
        ]
        for call in calls:
            with pytest.raises(grpc.RpcError) as refused:
                call()
            assert refused.value.code() == grpc.StatusCode.UNAUTHENTICATED
        right = [("x-jumpstarter-passphrase", PASSPHRASE)]
        assert stub.GetReport(empty_pb2.Empty(), metadata=right, timeout=5).reports
    assert PASSPHRASE not in guarded.exporter.log_path.read_text()


def test_mutual_tls_refuses_clients_without_a_certificate(tmp_path, authority):
    running = serve("mutual-tls", tmp_path, authority)
    credentials = grpc.ssl_channel_credentials((authority / "ca.pem").read_bytes())
    with grpc.secure_channel(running.host, credentials) as channel:
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        with pytest.raises(grpc.RpcError) as refused:
            stub.GetReport(empty_pb2.Empty(), timeout=20)
    assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
    running.exporter.stop()


@pytest.mark.parametrize("compression", [grpc.Compression.Gzip, grpc.Compression.Deflate])
def test_channels_that_compress(tmp_path, authority, compression):
    running = serve("unix", tmp_path, authority)
    with grpc.insecure_channel(f"unix:{running.host}", compression=compression) as channel:
        stub = jumpstarter_pb2_grpc.ExporterServiceStub(channel)
        unknown = jumpstarter_pb2.DriverCallRequest(uuid="0" * 5000, method="on")
        with pytest.raises(grpc.RpcError) as refused:
            stub.DriverCall(unknown, timeout=20)
        assert refused.value.code() == grpc.StatusCode.NOT_FOUND
        echo = next(r for r in stub.GetReport(empty_pb2.Empty()).reports if r.labels.get("jumpstarter.dev/name") == "echo")
        sent = b"0" * 100_000
        frame = router_pb2.StreamRequest(payload=sent, frame_type=router_pb2.FRAME_TYPE_DATA)
        end = router_pb2.StreamRequest(frame_type=router_pb2.FRAME_TYPE_GOAWAY)
        request = json.dumps({"kind": "driver", "uuid": echo.uuid, "method": "connect"})
        frames = router_pb2_grpc.RouterServiceStub(channel).Stream(
            iter([frame, end]), metadata=[("request", request)], timeout=20
        )
        assert b"".join(frame.payload for frame in frames) == sent
    running.exporter.stop()
