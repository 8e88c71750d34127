"""PyPI's tritonclient against a host: `client.py http|grpc <address>`. Says `well` at the end, or fails.

Both parts ask the same; what only one of them has stands in its own function.
"""

import sys

import numpy as np
from tritonclient.utils import InferenceServerException

part, address = sys.argv[1:]
if part == "http":
    import tritonclient.http as triton
else:
    import tritonclient.grpc as triton
client = triton.InferenceServerClient(address)


def tensor(name, array, datatype, **how):
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, **how)
    return made


def refused(call, *told):
    """The call fails with the host's own words."""
    try:
        call()
    except InferenceServerException as error:
        for text in told:
            assert text in str(error), f"{error} does not tell of {text}"
        return error
    raise AssertionError(f"not refused: {told}")


def metadata():
    assert client.is_server_live() and client.is_server_ready()
    assert client.is_model_ready("identity") and client.is_model_ready("identity", "1")
    assert not client.is_model_ready("identity", "9") if part == "http" else True
    server = client.get_server_metadata(**as_json())
    assert server["name"] == "tenon" and "binary_tensor_data" in server["extensions"], server
    model = client.get_model_metadata("ragged-identity", **as_json())
    assert model["name"] == "ragged-identity" and model["versions"] == ["1"], model
    assert [int(extent) for extent in model["inputs"][0]["shape"]] == [-1, -1], model
    assert [output["name"] for output in model["outputs"]] == ["same", "total"], model
    index = client.get_model_repository_index(**as_json())
    index = index if part == "http" else index["models"]
    assert {"identity", "slow"} <= {model["name"] for model in index if model["state"] == "READY"}, index
    refused(lambda: client.get_model_metadata("nothing"), "there is no model `nothing`")


def as_json():
    return {} if part == "http" else {"as_json": True}


def infer():
    rows = np.random.default_rng(7).standard_normal((64, 16)).astype(np.float32)
    whole = client.infer("identity", [tensor("x", rows, "FP32")], request_id="seven")
    response = whole.get_response()
    assert (response["id"] if part == "http" else response.id) == "seven", response
    assert np.array_equal(whole.as_numpy("y"), rows)
    # A batch is equal to its rows alone, over models whose rows differ in what they cost.
    ids = np.arange(40, dtype=np.int64).reshape(8, 5)
    batch = client.infer("ragged-identity", [tensor("ids", ids, "INT64")])
    assert np.array_equal(batch.as_numpy("same"), ids)
    assert np.array_equal(batch.as_numpy("total"), ids.sum(axis=1))
    vectors = client.infer("lookup", [tensor("ids", ids[:, :4], "INT64")], model_version="1").as_numpy("vector")
    for row in range(len(ids)):
        alone = client.infer("ragged-identity", [tensor("ids", ids[row : row + 1], "INT64")])
        assert np.array_equal(alone.as_numpy("total"), batch.as_numpy("total")[row : row + 1])
        alone = client.infer("lookup", [tensor("ids", ids[row : row + 1, :4], "INT64")]).as_numpy("vector")
        assert np.array_equal(alone, vectors[row : row + 1])
    # Only what is asked for.
    total = client.infer("ragged-identity", [tensor("ids", ids, "INT64")], outputs=[triton.InferRequestedOutput("total")])
    assert total.as_numpy("same") is None and np.array_equal(total.as_numpy("total"), ids.sum(axis=1))
    many = [client.async_infer("identity", [tensor("x", rows[:2], "FP32")]) for _ in range(8)] if part == "http" else []
    assert all(np.array_equal(one.get_result().as_numpy("y"), rows[:2]) for one in many)


def errors():
    row = np.zeros((1, 16), np.float32)
    ids = np.full((1, 4), 100, np.int64)
    refused(lambda: client.infer("nothing", [tensor("x", row, "FP32")]), "there is no model `nothing`; there are: ")
    refused(lambda: client.infer("identity", [tensor("x", row[:, :15], "FP32")]), "`x`", "15", "16")
    refused(lambda: client.infer("identity", [tensor("z", row, "FP32")]), "no input `z`")
    refused(lambda: client.infer("lookup", [tensor("ids", ids, "INT64")]), "100 is outside the range 0 to 99")
    refused(lambda: client.infer("identity", [tensor("x", row.astype(np.float64), "FP64")]), "FP64", "FP32")
    words = np.array([["word"] * 16], dtype=np.object_)
    refused(lambda: client.infer("identity", [tensor("x", words, "BYTES")]), "BYTES")
    asked = [triton.InferRequestedOutput("z")]
    refused(lambda: client.infer("identity", [tensor("x", row, "FP32")], outputs=asked), "no output `z`")
    asked = [triton.InferRequestedOutput("y", class_count=3)]
    refused(lambda: client.infer("identity", [tensor("x", row, "FP32")], outputs=asked), "`classification`")
    refused(lambda: client.infer("identity", [tensor("x", row, "FP32")], sequence_id=3), "`sequence_id`")
    late = refused(lambda: client.infer("slow", [tensor("x", row, "FP32")], timeout=20_000), "no answer within 20 ms")
    assert "504" in str(late.status()) or "DEADLINE" in str(late.status()), late.status()
    refused(lambda: client.load_model("identity"), "token")
    refused(lambda: client.unload_model("identity"), "token")
    # And all is as before.
    assert np.array_equal(client.infer("identity", [tensor("x", row, "FP32")]).as_numpy("y"), row)


def http():
    """JSON beside binary, packed bodies both ways."""
    rows = np.linspace(-1, 1, 64, dtype=np.float32).reshape(4, 16)
    for binary_in in (True, False):
        for binary_out in (True, False):
            made = tensor("x", rows, "FP32", binary_data=binary_in)
            asked = [triton.InferRequestedOutput("y", binary_data=binary_out)]
            for packing in (None, "gzip", "deflate"):
                given = client.infer(
                    "identity",
                    [made],
                    outputs=asked,
                    request_compression_algorithm=packing,
                    response_compression_algorithm=packing,
                )
                assert np.array_equal(given.as_numpy("y"), rows), (binary_in, binary_out, packing)
    refused(lambda: client.get_model_config("identity"), "not offered")
    refused(lambda: client.get_inference_statistics(), "")
    refused(lambda: client.get_system_shared_memory_status(), "not offered")


def grpc():
    """Typed contents, which the client itself never sends; field numbers against its own descriptors."""
    from tritonclient.grpc import service_pb2, service_pb2_grpc
    import grpc as wire

    stub = service_pb2_grpc.GRPCInferenceServiceStub(wire.insecure_channel(address))
    message = service_pb2.ModelInferRequest(model_name="ragged-identity", model_version="1", id="typed")
    made = message.inputs.add(name="ids", datatype="INT64", shape=[2, 3])
    made.contents.int64_contents.extend([1, 2, 3, 4, 5, 6])
    answer = stub.ModelInfer(message, timeout=30)
    assert (answer.model_name, answer.model_version, answer.id) == ("ragged-identity", "1", "typed"), answer
    assert [(output.name, output.datatype, list(output.shape)) for output in answer.outputs] == [
        ("same", "INT64", [2, 3]),
        ("total", "INT64", [2]),
    ], answer
    assert np.array_equal(np.frombuffer(answer.raw_output_contents[1], np.int64), [6, 15])
    message = service_pb2.ModelInferRequest(model_name="identity")
    made = message.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    made.contents.fp32_contents.extend([float(value) / 3 for value in range(16)])
    values = np.frombuffer(stub.ModelInfer(message, timeout=30).raw_output_contents[0], np.float32)
    assert np.array_equal(values, np.arange(16).astype(np.float32) / np.float32(3)) or np.allclose(values, np.arange(16) / 3)
    made.contents.int64_contents.append(1)
    try:
        stub.ModelInfer(message, timeout=30)
        raise AssertionError("two kinds of contents were taken")
    except wire.RpcError as error:
        assert error.code() == wire.StatusCode.INVALID_ARGUMENT and "fp32_contents" in error.details(), error
    message = service_pb2.ModelInferRequest(model_name="slow")
    message.inputs.add(name="x", datatype="FP32", shape=[1, 16])
    message.raw_input_contents.append(bytes(64))
    try:
        stub.ModelInfer(message, timeout=0.05)
        raise AssertionError("answered in no time")
    except wire.RpcError as error:
        assert error.code() == wire.StatusCode.DEADLINE_EXCEEDED, error
    try:
        stub.ModelStatistics(service_pb2.ModelStatisticsRequest())
        raise AssertionError("there are no statistics")
    except wire.RpcError as error:
        assert error.code() == wire.StatusCode.UNIMPLEMENTED, error
    refused(lambda: client.is_model_ready("nothing"), "NOT_FOUND")


metadata()
infer()
errors()
{"http": http, "grpc": grpc}[part]()
client.close()
print("well")
