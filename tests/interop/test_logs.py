"""The exporter's log, as the Python client shows it."""

import logging

import grpc
import pytest
from conftest import connected, serve, until
from google.protobuf import empty_pb2
from jumpstarter_protocol import jumpstarter_pb2_grpc


def test_the_client_logs_what_drivers_say(client, caplog):
    caplog.set_level(logging.INFO, "exporter:driver")
    of_driver = lambda: [record for record in caplog.records if record.name == "exporter:driver"]  # noqa: E731
    said = lambda: [record for record in of_driver() if record.getMessage() == "power on"]  # noqa: E731
    with client.log_stream():
        # Nothing tells when the subscription holds, so it is said until it is heard.
        until(lambda: client.power.on() or client.power.off() or said())
    assert said()[0].levelno == logging.INFO


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
            drivers = (record for record in stream if record.source == 1)
            records = [next(drivers) for _ in range(3)]
            assert [record.message for record in records] == ["Operation started", "power on", "Operation completed"]
            # What is called, and where, stands beside the text, which people read.
            assert all(record.severity == "INFO" and record.uuid for record in records)
            stream.cancel()
