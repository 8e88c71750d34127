"""How the programs of tests/gpu.sh ask a host: one request of the Open Inference Protocol with binary tensors. Needs torch
alone."""

import ctypes
import http.client
import json
import threading

import torch

KINDS = {"FP32": torch.float32, "INT64": torch.int64, "INT32": torch.int32, "UINT8": torch.uint8, "BOOL": torch.bool}
NAMES = {kind: name for name, kind in KINDS.items()}
LOCAL = threading.local()


def raw(tensor):
    tensor = tensor.contiguous()
    return ctypes.string_at(tensor.data_ptr(), tensor.numel() * tensor.element_size())


def body(names, tensors):
    """A request, and how long its JSON is."""
    data = [raw(tensor) for tensor in tensors]
    inputs = [
        {"name": name, "datatype": NAMES[tensor.dtype], "shape": list(tensor.shape),
         "parameters": {"binary_data_size": len(bytes_)}}
        for name, tensor, bytes_ in zip(names, tensors, data)
    ]
    head = json.dumps({"inputs": inputs, "parameters": {"binary_data_output": True}}).encode()
    return head + b"".join(data), len(head)


def outputs(head, data):
    """The tensors of an answer, in its order."""
    found, at = [], 0
    for output in json.loads(head)["outputs"]:
        size = output["parameters"]["binary_data_size"]
        flat = torch.frombuffer(bytearray(data[at:at + size]), dtype=KINDS[output["datatype"]])
        found.append(flat.reshape(output["shape"]))
        at += size
    return found


def ask(address, model, names, example):
    """The status, and all outputs; or what was said instead. Each thread keeps a connection, which may have been closed."""
    packed, head = body(names, example)
    headers = {"inference-header-content-length": str(head), "content-type": "application/octet-stream"}
    for attempt in (0, 1):
        connection = getattr(LOCAL, "connection", None)
        if connection is None:
            connection = LOCAL.connection = http.client.HTTPConnection(address, timeout=60)
        try:
            connection.request("POST", f"/v2/models/{model}/infer", packed, headers)
            answer = connection.getresponse()
            data = answer.read()
            break
        except (http.client.HTTPException, OSError):
            LOCAL.connection = None
            if attempt:
                raise
    if answer.status != 200:
        return answer.status, data[:200].decode(errors="replace")
    told = int(answer.headers["inference-header-content-length"])
    return 200, outputs(data[:told], data[told:])


def difference(answer, right):
    """Value by value; a NaN is as far off as can be."""
    return (answer.double() - right.double()).abs().nan_to_num(nan=float("inf"))


def get(address, path):
    """A document that the host tells."""
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request("GET", path)
    answer = connection.getresponse()
    data = answer.read()
    if answer.status != 200:
        raise RuntimeError(f"{path}: {answer.status} {data[:200]!r}")
    return json.loads(data)
