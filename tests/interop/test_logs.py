"""The exporter's log, as the Python client shows it."""

import logging

import grpc
import pytest
from conftest import connected, serve, until
from google.protobuf import empty_pb2
from jumpstarter_protocol import jumpstarter_pb2_grpc


def test_the_client_logs_what_drivers_say(client, caplog):
    caplog.set_level(logging.INFO, "exporter:driver")
    said = lambda: [record for record in caplog.records if record.name == "exporter:driver"]  # noqa: E731
    with client.log_stream():
        # Nothing tells when the subscription holds, so it is said until it is heard.
        until(lambda: client.power.on() or client.power.off() or said())
    assert said()[0].levelno == logging.INFO and "power" in said()[0].getMessage()


@pytest.fixture
def alone(tmp_path, authority):
    running = serve("tcp", tmp_path, authority)
    yield running
    running.exporter.stop()


def test_records_are_whole_and_every_client_sees_them(alone, authority):
    with grpc.insecure_channel(alone.host) as one, grpc.insecure_channel(alone.host) as other:
        streams = []
        for channel in [one, other]:
            stream = jumpstarter_pb2_grpc.ExporterServiceStub(channel).LogStream(empty_pb2.Empty())
            stream.initial_metadata()  # it is subscribed now
            streams.append(stream)
        with connected(alone, authority) as client:
            client.rack.power.on()
        for stream in streams:
            record = next(record for record in stream if record.source == 1)
            assert record.severity == "INFO" and "power" in record.message and record.uuid
            # Its type and its place are told beside the text, which people read.
            assert "rack.power" not in record.message and "MockPower" not in record.message
            stream.cancel()
