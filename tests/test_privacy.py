"""What docs/start/expectations.md says about privacy: no connection is opened."""

import socket

import numpy as np
import pytest

from transferclf import TransferClassifier, export, load_model, save_model


@pytest.fixture
def connections(monkeypatch):
    """Refuse connections and look-ups of hosts, and return the list of them."""
    tried = []

    def refuse(*arguments, **options):
        tried.append(arguments)
        raise OSError("no network in this test")

    monkeypatch.setattr(socket.socket, "connect", refuse)
    monkeypatch.setattr(socket.socket, "connect_ex", refuse)
    monkeypatch.setattr(socket, "getaddrinfo", refuse)
    return tried


@pytest.mark.slow
@pytest.mark.parametrize("engine", ["tensorflow", "openvino", "onnxruntime"])
def test_training_predicting_and_exporting_open_no_connection(engine, connections, rng, tmp_path):
    if engine == "onnxruntime":
        pytest.importorskip("tf2onnx", reason="the extra onnxruntime is not installed")
    X = rng.integers(0, 256, (12, 32, 32, 3), dtype=np.uint8)
    classifier = TransferClassifier("tiny", engine=engine, image_size=32, cache=None)
    classifier.fit(X, ["cat", "dog"] * 6)
    save_model(classifier, tmp_path / "pets.model")
    load_model(tmp_path / "pets.model").predict(X)
    export(classifier, tmp_path / ("pets.onnx" if engine == "onnxruntime" else "pets.xml"))
    assert connections == []


def test_the_connections_of_this_test_are_noticed(connections):
    with pytest.raises(OSError, match="no network"):
        socket.create_connection(("localhost", 1))
    assert len(connections) == 1
