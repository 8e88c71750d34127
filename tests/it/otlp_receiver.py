"""A receiver of OTLP/HTTP that shares nothing with the host: Python's server, and the messages of PyPI's opentelemetry-proto.

Says its port, then a line of JSON for each span and each metric that comes in.
"""

import json
import sys
from http.server import BaseHTTPRequestHandler, HTTPServer

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


def say(line):
    print(json.dumps(line) if isinstance(line, dict) else line, flush=True)


def spans(body):
    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield {
                    "kind": "span",
                    "service": resource.resource.attributes[0].value.string_value,
                    "name": span.name,
                    "trace": span.trace_id.hex(),
                    "span": span.span_id.hex(),
                    "parent": span.parent_span_id.hex(),
                    "nanoseconds": span.end_time_unix_nano - span.start_time_unix_nano,
                    "links": [link.span_id.hex() for link in span.links],
                }


def metrics(body):
    for resource in ExportMetricsServiceRequest.FromString(body).resource_metrics:
        for scope in resource.scope_metrics:
            for metric in scope.metrics:
                yield {"kind": "metric", "name": metric.name, "type": metric.WhichOneof("data"), "unit": metric.unit}


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self):
        body = self.rfile.read(int(self.headers["content-length"]))
        for line in (spans if self.path == "/v1/traces" else metrics)(body):
            say(line)
        self.send_response(200)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = HTTPServer(("127.0.0.1", 0), Receiver)
say(str(server.server_port))
sys.exit(server.serve_forever())
